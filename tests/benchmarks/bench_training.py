"""What the gate costs a training, and how fast it goes back, against the usual ways.

SmolLM2-135M with LoRA, as in the quickstart, on as many threads for both sides. The usual way to
score checkpoints is a fresh lm-eval process for each; the usual way back is a fresh process that
resumes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks import bench_lm_eval as lm_eval
from tests.trainers.training_driver import Quiet, never_fail

ROOT = Path(__file__).resolve().parents[2]
BASE = "smollm2-135m-instruct"
ROLLBACKS = 3
QUICK = {"documents": 4, "prompts": 2, "steps": 1, "every": 1, "batch": 2}
WHOLE = {"documents": 16, "prompts": 12, "steps": 6, "every": 3, "batch": 8}


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows of (what, ours, peer, ratio, goal, note); `quick` takes the smallest sizes."""
    import torch

    torch.set_num_threads(lm_eval.THREADS)
    rows = []
    python = lm_eval.peer_python()
    if python is not None:
        with tempfile.TemporaryDirectory() as scratch:
            rows += _being_gated(Path(scratch), python, QUICK if quick else WHOLE)
    with tempfile.TemporaryDirectory() as scratch:
        rows.append(_going_back(Path(scratch), 1 if quick else ROLLBACKS))
    return rows


# -- being gated -------------------------------------------------------------------------------


def _being_gated(place: Path, python: Path, size: dict[str, int]) -> list[dict[str, object]]:
    """What judging adds to a training, against a fresh lm-eval process for each checkpoint; and
    what it adds where a second process judges while the training goes on.
    """
    from harness.backends.transformers.backend import TransformersBackend
    from harness.models.resolve import load

    base = _base()
    backend = TransformersBackend(*load(base))
    items = lm_eval.workload(backend, size["documents"], size["prompts"])
    del backend
    suite = lm_eval.our_suite(items, place)
    _never_fail(suite)
    tasks = lm_eval.their_tasks(items, place)
    schedule = {
        "steps": size["steps"],
        "checkpoint_every": size["every"],
        "batch_size": size["batch"],
    }
    with _training(place, suite, schedule) as training:
        # Once unmeasured: whoever comes first imports what all of them use.
        _plain(training, place / "warm")
        plain = _plain(training, place / "plain")
        gated = _timed(training)
        checkpoints = [training.folder.path(step) for step, _ in training.folder.steps()]
    with _training(place, suite, schedule, home="aside", aside="cpu") as training:
        aside = _timed(training)
    command = lm_eval.their_command(python, base.folder, tasks)
    at = command.index("--model_args") + 1
    theirs = []
    for checkpoint in checkpoints:
        adapted = [*command[:at], f"{command[at]},peft={checkpoint}", *command[at + 1 :]]
        theirs.append(lm_eval.timed(adapted, place)["seconds"])
    added, beside, peer = gated - plain, aside - plain, sum(theirs)
    answers = len(items["messages"]) * lm_eval.RESPONSES
    what = f"{size['steps']} steps of {size['batch']}, {len(checkpoints)} checkpoints scored"
    return [
        {
            "what": f"being gated: {what}",
            "ours": f"{added:.1f} s added to {plain:.1f} s",
            "peer": f"{peer:.1f} s added (lm-eval hf, a fresh process for each checkpoint)",
            "ratio": added / peer,
            "goal": "<= 1/3",
            "note": f"{len(items['documents'])} documents read and {answers} answers of up to "
            f"{lm_eval.NEW_TOKENS} tokens written at each; ours also decides and commits each "
            "checkpoint whole",
        },
        {
            "what": f"judged on the side by a second process on the same two cores: {what}",
            "ours": f"{beside:.1f} s added to {plain:.1f} s",
            "peer": f"{added:.1f} s added (judged in place, as above)",
            "ratio": beside / added,
            "goal": "reported; where a second device is at hand, < 5% of the training",
            "note": "from the start to the last verdict, the second process's start and loading "
            "included",
        },
    ]


def _never_fail(suite: Path) -> None:
    """Margins so wide that every verdict is reached and none sends the training back, which would
    be another training.
    """
    wide = {"margin": 0.9}
    raw = yaml.safe_load(suite.read_text("utf-8"))
    raw["gate"] = {"metrics": {"documents/perplexity": wide, "answers/json_valid": wide}}
    suite.write_text(yaml.safe_dump(raw), "utf-8")


def _timed(training: Any) -> float:
    """Seconds of a gated training from its start to its last verdict."""
    started = time.perf_counter()
    result = training.run()
    seconds = time.perf_counter() - started
    if result.rollbacks:
        raise RuntimeError(
            f"the training was to go through, and went back {result.rollbacks} times"
        )
    return seconds


def _plain(training: Any, output: Path) -> float:
    """Seconds of the same training with nobody to judge it: loaded, trained, saved as ever."""
    from trainers.config.data_plan import current_order
    from trainers.loop.engine import Engine, Segment

    started = time.perf_counter()
    engine = Engine(training.stage_run, output, _Nobody())
    engine.run(Segment(current_order(training.plan, (), ()), None, 1.0))
    return time.perf_counter() - started


class _Nobody:
    """A watcher that lets everything pass."""

    def began(self, step: int) -> bool:
        return False

    def saved(self, step: int) -> bool:
        return False

    def logged(self, step: int, logs: Any) -> bool:
        return False


# -- going back --------------------------------------------------------------------------------


def _going_back(place: Path, times: int) -> dict[str, object]:
    from harness.core.types import VerdictOutcome

    base = _base()
    texts = lm_eval.heldout_passages()[:2]
    lm_eval.write_lines(place / "documents.jsonl", "text", texts)
    suite = place / "suite.yaml"
    task = {"data": "documents.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    suite.write_text(yaml.safe_dump({"name": "back", "tasks": {"documents": task}}), "utf-8")
    # What a step costs is not part of either side: the smallest batch will do.
    schedule = {"steps": 2, "checkpoint_every": 1, "batch_size": 1}
    with _training(place, suite, schedule) as training:
        fails = {(2, attempt): VerdictOutcome.FAIL for attempt in range(1, times + 1)}
        never_fail(training, fails)
        training.run()
        ours = training.returns
        rows = [training.trained[index] for index in range(16)]
        (place / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        checkpoint = training.folder.path(1)
        theirs = [_fresh(base.folder, checkpoint, place / "rows.json") for _ in range(times)]
    mine, peer = statistics.median(ours), statistics.median(theirs)
    return {
        "what": "rollback: from the verdict to the beginning of the next step",
        "ours": f"{mine:.2f} s",
        "peer": f"{peer:.1f} s (a fresh process with resume_from_checkpoint)",
        "ratio": mine / peer,
        "goal": "<= 1/20",
        "note": f"{len(ours)} and {len(theirs)} times; ours records why, moves the bad checkpoint "
        "away and verifies the good one as well",
    }


def _fresh(folder: Path, checkpoint: Path, rows: Path) -> float:
    """Seconds from the start of a process to the beginning of its first step."""
    script = Path(__file__).with_name("resume_peer.py")
    command = [sys.executable, str(script), str(folder), str(checkpoint), str(rows)]
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, str(lm_eval.THREADS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=lm_eval.environment(),
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        seconds = time.perf_counter() - started
    if said != "step":
        raise RuntimeError(f"the peer ended with {process.returncode} before its first step")
    return seconds


# -- a gated training that is timed --------------------------------------------------------------


def _base() -> Any:
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    # The unpacked model is shared with the user's own workspace; nothing else is.
    return resolve(BASE, Workspace.at())


@contextmanager
def _training(
    place: Path,
    suite: Path,
    schedule: dict[str, int],
    *,
    home: str = "home",
    aside: str | None = None,
) -> Iterator[Any]:
    from harness.core.workspace import Workspace
    from harness.store.store import Store
    from trainers.config.load import load_recipe
    from trainers.config.run_options import RunOptions
    from trainers.loop.gated_training import GatedTraining

    class Timed(GatedTraining):
        """`returns` are the seconds from each failed verdict to the next step's beginning."""

        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self.returns: list[float] = []
            self._failed_at: float | None = None

        @property
        def trained(self) -> Any:
            return self.engine.trainer.train_dataset

        def open_engine(self) -> Any:
            engine = super().open_engine()
            engine.trainer.add_callback(_beginnings(self))
            return engine

        def saved(self, step: int) -> bool:
            failed = super().saved(step)
            self._failed_at = time.perf_counter() if failed else None
            return failed

        def stepping(self) -> None:
            if self._failed_at is not None:
                self.returns.append(time.perf_counter() - self._failed_at)
                self._failed_at = None

    recipe = _recipe(place, suite, schedule)
    workspace = Workspace.at(place / home).ensure()
    # The base is not unpacked once more: that would be timed with the training.
    shared = Workspace.at().cache / "models"
    (workspace.cache / "models").symlink_to(shared.resolve(), target_is_directory=True)
    with Store(workspace) as store:
        options = RunOptions(background_device=aside)
        yield Timed(load_recipe(recipe), workspace, store, Quiet(), options=options)


def _beginnings(training: Any) -> Any:
    from transformers import TrainerCallback

    class Beginnings(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            training.stepping()

    return Beginnings()


def _recipe(place: Path, suite: Path, schedule: dict[str, int]) -> Path:
    data = ROOT / "trainers/recipes/data"
    source = {
        "source": str(data / "intents.train.jsonl"),
        "weight": 1,
        "prompt": {"system": "Answer with one JSON intent.", "user": "{{ message }}"},
        "completion": "{{ intent }}",
    }
    recipe = {
        "name": "bench",
        "line": "bench",
        "base": BASE,
        "adapter": {"kind": "lora", "rank": 16, "alpha": 32},
        "data": {"seed": 7, "mix": [source]},
        "stages": [{"trainer": "sft", **schedule}],
        "gate": {
            "suite": str(suite),
            "on_fail": ["reshuffle"],
            "max_rollbacks": ROLLBACKS,
            "promote": False,
        },
    }
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


if __name__ == "__main__":
    for row in run(quick="--quick" in sys.argv):
        print(row)
