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
    """How a training ended. `first`, `best` and `offered` are the runs of checkpoint-0, of the best
    checkpoint and of the one that was offered to `line`; `offered_step` is 0 where none was.
    """

    training_id: str
    status: str
    best_step: int
    first: Run
    best: Run
    digest: str | None
    promoted: bool
    rollbacks: int
    line: str | None
    offered_step: int
    offered: Run
