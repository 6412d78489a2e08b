"""Several stages in one recipe: each begins where the one before stood best, and survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from tests.trainers.method_builders import stage_of, write_method_world, write_stages
from tests.trainers.training_driver import Quiet, never_fail, weights
from trainers.checkpoints.lookup import reward_folder
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining
from trainers.loop.reporter import TrainingResult
from trainers.loop.stages import run_stages


def run(path: Path, reporter: Quiet, home: str = "home") -> tuple[list[TrainingResult], Workspace]:
    workspace = Workspace.at(path.parent / home).ensure()
    with Store(workspace) as store:
        found = run_stages(load_recipe(path), workspace, store, reporter)  # type: ignore[arg-type]
        return list(found), workspace


def place(workspace: Workspace, result: TrainingResult, step: int) -> Path:
    return workspace.trainings / result.training_id / "checkpoints" / f"step-{step:06d}"


def two_stages() -> list[dict[str, Any]]:
    # Full fine-tuning of so small a model moves its perplexity enough to be seen on 8 texts.
    return [
        stage_of(
            "sft",
            learning_rate=0.03,
            data={
                "seed": 3,
                "mix": [{"source": "heldout.jsonl", "weight": 1, "text": "{{ text }}"}],
            },
        ),
        stage_of("dpo", learning_rate=1e-4),
    ]


@pytest.mark.parametrize(
    "adapter",
    [{"rank": 8, "alpha": 32}, pytest.param({"kind": "none"}, marks=pytest.mark.long)],
)
def test_a_stage_begins_with_the_best_checkpoint_of_the_one_before(
    tmp_path: Path, tiny_llama: Path, adapter: dict[str, Any]
) -> None:
    results, workspace = run(
        write_stages(tmp_path, tiny_llama, *two_stages(), adapter=adapter), Quiet()
    )
    first, second = results
    assert first.best_step > 0
    best_checkpoint = place(workspace, first, first.best_step)
    assert weights(place(workspace, second, 0)) == weights(best_checkpoint)
    assert weights(place(workspace, second, 6)) != weights(best_checkpoint)
    # The same bytes need no second scoring, and only the last stage is offered to the line.
    assert second.first.id == first.best.id
    assert (first.line, second.line) == (None, "tiny")


def test_an_interrupted_second_stage_goes_on_to_the_same_end(
    tmp_path: Path, tiny_llama: Path
) -> None:
    whole, workspace = run(write_stages(tmp_path / "a", tiny_llama, *two_stages()), Quiet())
    path = write_stages(tmp_path / "b", tiny_llama, *two_stages())

    class Interrupting(Quiet):
        def train_step(self, step: int, of: int, loss: float) -> None:
            self.heard.append(("train_step", (step,)))
            if len(self.of("train_step")) == 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, Interrupting())
    reporter = Quiet()
    again, other = run(path, reporter)
    assert [words[0] for words in reporter.of("train_step")] == [3, 4, 5, 6]
    assert [r.best_step for r in again] == [r.best_step for r in whole]
    assert weights(place(other, again[1], 6)) == weights(place(workspace, whole[1], 6))
    reporter = Quiet()
    run(path, reporter)
    assert reporter.of("train_step") == []


def test_a_reward_stage_is_gated_on_pairs_and_serves_the_next(
    tmp_path: Path, tiny_llama: Path
) -> None:
    reward = stage_of(
        "reward",
        name="helpful",
        steps=24,
        checkpoint_every=12,
        learning_rate=0.02,
        gate={"suite": "pairs.yaml"},
    )
    rl = stage_of("grpo", steps=2, rewards=[{"kind": "model", "path": "stage:helpful"}])
    path = write_stages(tmp_path, tiny_llama, reward, rl)
    results, workspace = run(path, Quiet())
    trained, reinforced = results
    assert trained.best_step > 0
    assert trained.line is None
    recipe = load_recipe(path)
    assert reward_folder(recipe, "helpful", workspace) == place(
        workspace, trained, trained.best_step
    )
    with Store(workspace) as store:
        accuracy = {
            row["run_id"]: row["mean"]
            for row in store.query("SELECT * FROM run_summary WHERE metric = 'pair_accuracy'")
        }
        subjects = store.query("SELECT DISTINCT subject FROM runs WHERE suite = 'pairs'")
        rewards = store.query("SELECT detail FROM training_events WHERE event = 'rewards'")
        assert Registry(workspace, store).promoted("tiny") is None or reinforced.promoted
    assert accuracy[trained.best.id] > accuracy[trained.first.id]
    assert accuracy[trained.best.id] > 0.9
    assert all("reward" in str(row["subject"]) for row in subjects)
    # Completions are drawn once and learned from twice, so there is one reward for two steps.
    assert len(rewards) == 1
    with pytest.raises(UserError, match="no reward stage named 'harmless'"):
        reward_folder(recipe, "harmless", workspace)


def test_steps_are_tracked_through_a_rollback(tmp_path: Path, tiny_llama: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = write_method_world(tmp_path, tiny_llama, "sft", tracking=["tensorboard"])
    workspace = Workspace.at(tmp_path / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]
        never_fail(training, {(4, 1): VerdictOutcome.FAIL})
        training.run()
    found = events.EventAccumulator(str(training.folder.home / "tensorboard"))
    found.Reload()
    assert {event.step for event in found.Scalars("train/loss")} == {1, 2, 3, 4, 5, 6}


def test_training_data_that_is_in_the_suite_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_method_world(tmp_path, tiny_llama, "reward", contamination={"refuse_above": 0.1})
    with pytest.raises(UserError, match="is in the training data"):
        run(path, Quiet())


def test_the_check_shows_what_of_the_suite_is_in_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = write_method_world(tmp_path, Path("nowhere"), "reward")
    assert main(["recipes", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "100.0% of the samples of pairs/t are in the data" in said
    assert "pairs.jsonl row p0 is" in said
    allowed = path.read_text(encoding="utf-8") + "contamination: {refuse_above: 0.1}\n"
    path.write_text(allowed, encoding="utf-8")
    assert main(["recipes", "check", str(path)]) == 3
    assert "is in the training data" in capsys.readouterr().err
