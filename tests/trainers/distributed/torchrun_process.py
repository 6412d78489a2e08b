"""One process of several, started by torchrun with the arguments HOW PATH:WHAT …

It trains the recipes one after the other, as the command does, with forced verdicts
(`training_driver`).

HOW is `none`, `zero2` or `zero3`; WHAT is `back` (the second checkpoint fails, and its segment is
left out) or `clean` (the segment is left out from the beginning).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.training_driver import Quiet, never_fail, weights
from trainers.checkpoints.state import TrainingState, save_state
from trainers.config.load import load_recipe
from trainers.config.run_options import RunOptions, Sharding
from trainers.distributed.ranks import Ranks
from trainers.distributed.sharding import require_sharding
from trainers.loop.follower import Follower
from trainers.loop.gated_training import GatedTraining
from trainers.loop.stage_run import StageRun

ROOT = Path(__file__).parents[3]


def train(path: Path, what: str, how: Sharding | None) -> None:
    recipe, options = load_recipe(path), RunOptions(how)
    require_sharding(recipe, how)
    ranks = Ranks.here(how)
    workspace = Workspace.at(path.parent / "home").ensure()
    if not ranks.first:
        run = StageRun.of(recipe, recipe.stages[0], workspace, options=options)
        Follower(run, ranks).run()
        return
    with Store(workspace) as store:
        training = GatedTraining(
            recipe, workspace, store, cast(Any, Quiet()), ranks=ranks, options=options
        )
        never_fail(training, {(4, 1): VerdictOutcome.FAIL} if what == "back" else {})
        if what == "clean":
            state = TrainingState(training.training_id, training.plan.digest, dropped=(2,))
            save_state(training.record.path, state)
        result = training.run()
        assert result.status == "finished"
        assert result.rollbacks == (1 if what == "back" else 0)


def train_in_two(
    worlds: Sequence[tuple[Path, str]], how: str = "none", *, python: str = sys.executable
) -> None:
    """Train the recipes in two processes."""
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [f"{path}:{what}" for path, what in worlds]
    done = subprocess.run(
        [*torchrun, "-m", "tests.trainers.distributed.torchrun_process", how, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def checkpoints(path: Path) -> dict[str, str]:
    """The digests of the weights of every checkpoint that was kept."""
    [home] = (path.parent / "home" / "trainings").iterdir()
    return {step.name: weights(step) for step in sorted((home / "checkpoints").iterdir())}


def losses(path: Path) -> list[float]:
    """The loss of each step of a training that never went back."""
    with Store(Workspace.at(path.parent / "home")) as store:
        rows = store.query("SELECT loss FROM training_steps ORDER BY step")
    return [row["loss"] for row in rows]


def figures(path: Path) -> list[dict[str, float]]:
    """What each such step earned, with its divergence and entropy."""
    with Store(Workspace.at(path.parent / "home")) as store:
        rows = store.query("SELECT detail FROM training_events WHERE event = 'rewards'")
    return [row["detail"] for row in rows]


def main() -> None:
    how = cast(Any, None if sys.argv[1] == "none" else sys.argv[1])
    for world in sys.argv[2:]:
        path, _, what = world.rpartition(":")
        train(Path(path), what, how)


if __name__ == "__main__":
    main()
