"""The interface through which a training tells what happens, and the result at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.core.types import Run
from trainers.loop.opinion import Opinion


class Reporter(Protocol):
    """The console's is `trainers.cli.console.ConsoleReporter`."""

    def say(self, text: str) -> None: ...

    def train_step(self, step: int, of: int, loss: float | None) -> None: ...

    def progress(self, stage: str, done: int, total: int) -> None: ...

    def judged(self, step: int, opinion: Opinion) -> None:
        """A checkpoint has its verdict; once for each, in their order."""
        ...

    def rolled_back(self, step: int, to: int, remedy: str, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended. `first` and `best` are the runs of checkpoint-0 and of the best
    checkpoint; `line` is what the best checkpoint was offered to, if to any.
    """

    training_id: str
    status: str
    best_step: int
    first: Run
    best: Run
    digest: str | None
    promoted: bool
    rollbacks: int
    line: str | None = None
