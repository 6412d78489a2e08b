"""What follows from a failure: remedies in order and within bounds, health rules, the webhook."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet, never_fail
from trainers.config.load import load_recipe
from trainers.config.schema import HealthRule
from trainers.loop.gated_training import GatedTraining
from trainers.loop.health import Health
from trainers.loop.reporter import TrainingResult

FAIL, HELD = VerdictOutcome.FAIL, VerdictOutcome.INCONCLUSIVE


def train(
    path: Path, verdicts: dict[tuple[int, int], VerdictOutcome]
) -> tuple[TrainingResult, GatedTraining, Quiet, list[dict[str, Any]]]:
    reporter = Quiet()
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, reporter)  # type: ignore[arg-type]
        never_fail(training, verdicts)
        result = training.run()
        events = store.query("SELECT * FROM training_events ORDER BY happened_at")
    return result, training, reporter, events


def rates(training: GatedTraining) -> dict[tuple[int, int], float]:
    with Store(training.stage_run.workspace) as store:
        rows = store.query("SELECT step, attempt, learning_rate FROM training_steps")
    return {(row["step"], row["attempt"]): row["learning_rate"] for row in rows}


def test_remedies_are_tried_in_order_until_the_training_stops(
    tmp_path: Path, tiny_llama: Path
) -> None:
    gate = {
        "suite": "suite.yaml",
        "promote": False,
        "on_fail": ["reshuffle", "lower_lr", "skip_data", "stop"],
        "max_rollbacks": 5,
    }
    path = write_method_world(
        tmp_path, tiny_llama, "sft", gate=gate, stage={"schedule": "constant"}
    )
    result, training, reporter, _ = train(path, {(4, attempt): FAIL for attempt in range(1, 9)})
    assert [words[2] for words in reporter.of("rolled_back")] == gate["on_fail"]
    assert (result.status, result.rollbacks, result.best_step) == ("stopped", 4, 0)
    assert training.state.dropped == (2,)
    assert [after for after, _ in training.state.reshuffles] == [
        reporter.of("rolled_back")[0][1] // 2
    ]
    found = rates(training)
    assert found[4, 2] == pytest.approx(0.01)
    assert found[4, 3] == found[4, 4] == pytest.approx(0.005)


def test_rollbacks_are_bounded_whatever_the_list_says(tmp_path: Path, tiny_llama: Path) -> None:
    gate = {
        "suite": "suite.yaml",
        "promote": False,
        "on_fail": ["skip_data"],
        "max_rollbacks": 1,
    }
    path = write_method_world(tmp_path, tiny_llama, "sft", gate=gate)
    result, _, reporter, _ = train(path, {(2, attempt): FAIL for attempt in range(1, 9)})
    assert [words[2] for words in reporter.of("rolled_back")] == ["skip_data", "stop"]
    assert result.status == "stopped"


@pytest.mark.parametrize("reserve", [0.5, 0])
def test_undecided_looks_further_and_then_holds(
    tmp_path: Path, tiny_llama: Path, reserve: float
) -> None:
    """No verdict is forced: with four of eight texts nothing is settled, with all of them it is;
    where there are only two, the checkpoint is held and the training goes on.
    """
    gate = {
        "suite": "suite.yaml",
        "promote": False,
        "on_inconclusive": {"looks": [1, 2], "then": "hold"},
    }
    path = write_method_world(tmp_path, tiny_llama, "sft", gate=gate, stage={"learning_rate": 1e-9})
    suite = path.parent / "suite.yaml"
    text = suite.read_text("utf-8").replace("metrics", f"reserve: {reserve}\n    metrics")
    suite.write_text(text, "utf-8")
    if not reserve:
        texts = path.parent / "heldout.jsonl"
        texts.write_text("".join(texts.read_text("utf-8").splitlines(keepends=True)[:2]), "utf-8")
    workspace = Workspace.at(tmp_path / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]
        result = training.run()
        looks = store.query("SELECT step, look, outcome FROM verdicts ORDER BY step, look")
        held = store.query("SELECT count(*) AS n FROM training_events WHERE event = 'held'")
    assert (result.status, result.best_step, result.rollbacks) == ("finished", 0, 0)
    last = "pass" if reserve else "inconclusive"
    assert [row["outcome"] for row in looks] == ["inconclusive", last] * 3
    assert [row["look"] for row in looks] == [1, 2] * 3
    assert held[0]["n"] == (0 if reserve else 3)


def test_a_loss_that_is_no_number_gives_the_segment_up(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft")
    workspace = Workspace.at(tmp_path / "home").ensure()
    reporter = Quiet()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, reporter)  # type: ignore[arg-type]
        never_fail(training, {})
        _spoil_a_step(training, step=3)
        result = training.run()
    [(step, to, remedy, why)] = reporter.of("rolled_back")
    assert (step, remedy) == (4, "skip_data")
    assert to in (0, 2)
    assert "at step 3 the loss is nan" in why
    assert (result.status, training.state.dropped) == ("finished", (2,))


def _spoil_a_step(training: GatedTraining, step: int) -> None:
    """The first time that a step is taken, its loss is not a number."""
    make, spent = training.open_engine, []

    def spoiled() -> Any:
        engine = make()
        compute = engine.trainer.compute_loss

        def loss(model: Any, inputs: Any, *words: Any, **more: Any) -> Any:
            found = compute(model, inputs, *words, **more)
            if engine.trainer.state.global_step == step - 1 and not spent:
                spent.append(step)
                return found * math.nan
            return found

        engine.trainer.compute_loss = loss
        return engine

    training.open_engine = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("trainer", "measure", "rule"),
    [
        ("sft", "grad_norm", {"at_most": 1e-6, "then": "lower_lr"}),
        ("sft", "loss_gap", {"at_most": -50, "then": "stop"}),
        ("grpo", "entropy", {"at_least": 50, "then": "lower_lr"}),
        pytest.param("rloo", "kl", {"at_least": 50, "then": "reshuffle"}, marks=pytest.mark.long),
        pytest.param(
            "ppo", "rewards/length", {"at_least": 2, "then": "lower_lr"}, marks=pytest.mark.long
        ),
    ],
)
def test_a_broken_health_rule_has_its_own_remedy(
    tmp_path: Path, tiny_llama: Path, trainer: str, measure: str, rule: dict[str, Any]
) -> None:
    path = write_method_world(
        tmp_path,
        tiny_llama,
        trainer,
        health={measure: rule},
        stage={"steps": 2, "checkpoint_every": 2},
        gate={"suite": "suite.yaml", "promote": False, "max_rollbacks": 1},
    )
    if measure == "loss_gap":
        path.write_text(path.read_text("utf-8").replace("seed: 3", "seed: 3\n  validation: 0.3"))
    result, _, reporter, events = train(path, {})
    backs = reporter.of("rolled_back")
    assert backs[0][2] == rule["then"]
    assert "over the segment is" in backs[0][3]
    assert result.status == "stopped"
    assert [e["event"] for e in events].count("unhealthy") == len(backs)


def test_a_policy_that_pleases_one_judge_by_cheating_another_is_caught(
    tmp_path: Path, tiny_llama: Path
) -> None:
    """The sum rises all the while: only the parts, each by itself, show what happens."""
    code = (
        "calls = {'pleases': 0, 'honest': 0}\n"
        "def moved(name, by, completions):\n"
        "    calls[name] += 1\n"
        "    return [0.5 + by * (calls[name] > 4)] * len(completions)\n"
        "def pleases(prompts, completions, **columns):\n"
        "    return moved('pleases', 0.5, completions)\n"
        "def honest(prompts, completions, **columns):\n"
        "    return moved('honest', -0.4, completions)\n"
    )
    (tmp_path / "judges.py").write_text(code, encoding="utf-8")
    rewards = [
        {"kind": "function", "path": f"judges.py:{name}", "name": name, "weight": 0.5}
        for name in ("pleases", "honest")
    ]
    path = write_method_world(
        tmp_path,
        tiny_llama,
        "grpo",
        stage={
            "rewards": rewards,
            "steps": 8,
            "checkpoint_every": 4,
            "reuse": 1,
            "flat_reward_steps": 0,
        },
        health={"rewards/honest": {"falls_by": 0.2, "then": "stop"}},
    )
    result, _, reporter, events = train(path, {})
    assert result.status == "stopped"
    [(step, _, remedy, why)] = reporter.of("rolled_back")
    assert (step, remedy) == (8, "stop")
    assert "rewards/honest over the segment is 0.1, 0.4 below the first segment's" in why
    parts = [e["detail"] for e in events if e["event"] == "rewards"]
    first, last = parts[0], parts[-1]
    assert last["reward"] > first["reward"]
    assert last["rewards/pleases/mean"] > first["rewards/pleases/mean"]
    assert last["rewards/honest/mean"] < first["rewards/honest/mean"]


def test_a_measure_may_not_fall_by_more_than_it_is_allowed() -> None:
    health = Health({"rewards/json": HealthRule(falls_by=0.2)})
    health.hear({"loss": 1.0, "rewards/json/mean": 0.5})
    health.hear({"loss": 1.0, "rewards/json/mean": 0.7})
    means = health.means()
    assert means["rewards/json"] == pytest.approx(0.6)
    assert health.symptom(means, {"rewards/json": 0.7}) is None
    symptom = health.symptom(means, {"rewards/json": 0.9})
    assert symptom is not None
    assert "0.3 below the first segment's" in symptom.why
    health.begin()
    assert health.means() == {}


@contextmanager
def listening(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/told", heard
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [204, 500])
def test_a_rollback_calls_the_webhook_and_goes_on_whatever_it_says(
    tmp_path: Path, tiny_llama: Path, status: int
) -> None:
    with listening(status) as (url, heard):
        path = write_method_world(tmp_path, tiny_llama, "sft", webhook=url)
        result, training, _, events = train(path, {(2, 1): FAIL})
    assert result.status == "finished"
    [message] = heard
    assert message["event"] == "rolled_back"
    assert message["training"] == training.training_id
    assert (message["step"], message["to"], message["remedy"]) == (2, 0, "skip_data")
    assert message["why"]
    failed = [e for e in events if e["event"] == "webhook_failed"]
    assert len(failed) == (status == 500)
