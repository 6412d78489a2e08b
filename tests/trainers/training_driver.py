"""Drive a gated training in a test: a reporter that remembers, a verdict that is forced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.files import sha256_of_file
from harness.core.types import VerdictOutcome
from trainers.checkpoints.state import TrainingState
from trainers.loop.gated_training import GatedTraining

STATE_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
WEIGHT_FILES = ("model.safetensors", "adapter_model.safetensors")


class Quiet:
    """A reporter that remembers what it was told, and may be told to interrupt."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self._left = interrupt_at

    def __getattr__(self, name: str) -> Callable[..., None]:
        def hear(*words: Any) -> None:
            self.heard.append((name, words))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    raise KeyboardInterrupt

        return hear

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [words for heard, words in self.heard if heard == name]


def force(training: GatedTraining, outcomes: dict[tuple[int, int], VerdictOutcome]) -> None:
    """Have the verdicts of (step, attempt) be these; the scoring and the deciding stay real."""
    decide = training.judging.decide

    def forced(candidate: Any, step: int, state: TrainingState) -> Any:
        decisions = decide(candidate, step, state)
        outcome = outcomes.get((step, state.attempt))
        if outcome is None:
            return decisions
        verdict = replace(decisions[0].verdict, outcome=outcome)
        return [replace(decisions[0], verdict=verdict), *decisions[1:]]

    training.judging.decide = forced  # type: ignore[method-assign]


def never_fail(training: GatedTraining, but: dict[tuple[int, int], VerdictOutcome]) -> None:
    """As `force`, with every other checkpoint held and none a new best checkpoint."""
    steps = range(0, training.stage.model.steps + 1)
    held = {(s, a): VerdictOutcome.INCONCLUSIVE for s in steps for a in range(1, 9)}
    force(training, {**held, **but})
    training.judging.better_than_best = lambda *_: None  # type: ignore[method-assign]


def weights(folder: Path) -> str:
    return sha256_of_file(next(folder / name for name in WEIGHT_FILES if (folder / name).exists()))


def everything(training: GatedTraining, step: int) -> dict[str, str]:
    """Digests of all that a checkpoint carries on: weights, optimizer, scheduler, randomness."""
    folder = training.folder.path(step)
    return {"weights": weights(folder), **{n: sha256_of_file(folder / n) for n in STATE_FILES}}
