"""Trainings in two processes: by the command, or by this module with verdicts that are forced.

Started by torchrun with the arguments HOW PATH:WHAT …, it trains the recipes one after the other.
HOW is `none`, `zero2` or `zero3`; WHAT is `back` (the second checkpoint fails, and its segment is
left out) or `clean` (the segment is left out from the beginning).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
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
# What a process draws is its own in TRL's trainers; ours draws the same answers in any world.
ALIKE = ("reward", "dpo", "kto", "ppo")
MORE_THAN_ONE = {"ppo": {"gradient_accumulation": 2, "ppo": {"epochs": 1, "minibatches": 2}}}


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


def launch(
    folder: Path,
    processes: int = 2,
    *,
    python: str = sys.executable,
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [python, "-m", "torch.distributed.run"]
    topology = ["--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
    words = ["train", str(folder / "recipe.yaml"), "--home", str(folder / "home"), *options]
    return subprocess.run(
        [*torchrun, *topology, "--master-port", str(port), "-m", "harness", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


def begin_without(folder: Path, dropped: tuple[int, ...]) -> None:
    """The state of a training that has not begun, and that leaves these segments out."""
    workspace = Workspace.at(folder / "home").ensure()
    with Store(workspace) as store:
        recipe = load_recipe(folder / "recipe.yaml")
        training = GatedTraining(recipe, workspace, store, Quiet())  # type: ignore[arg-type]
        state = TrainingState(training.training_id, training.plan.digest, dropped=dropped)
        save_state(training.record.path, state)


def world_of(folder: Path, base: Path, trainer: str) -> Path:
    """PPO's step is of several micro-batches, and each of its rollouts of several steps."""
    return write_method_world(folder, base, trainer, stage=MORE_THAN_ONE.get(trainer))


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
