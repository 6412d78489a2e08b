"""What a training must remember to go on after anything: one small file, written atomically.

The store keeps the history for its readers; this file alone decides what happens next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.files import write_atomic
from trainers.config.precision import Settled

Status = Literal["running", "finished", "stopped"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A checkpoint that has been scored and, but for checkpoint-0, compared with the others.

    `measures` are what the trainer measured on the way to it, as means over the segment.
    """

    step: int
    attempt: int
    run_id: str
    outcome: str
    mean_z: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingState:
    """`attempt` counts from 1 and rises with each rollback; `start` is the step that this attempt
    went on from; `origin` the digest of the checkpoint that the stage began from, where it was not
    the bare base; `dropped` are numbers of the data stream's segments; `skipped` are rows that are
    left out from a place in the order on: (how many rows come before it, the rows); `failures`
    counts the rollbacks since the best checkpoint last moved. `plan_version` is the way in which
    the data was planned (`config.data_plan`): one that says nothing began before there was a
    second. `offered` is the step chosen for promotion at the end; None where a training ended
    before there was a choice. `settled` is None for a training that began before there was a choice
    of dtypes.
    """

    training_id: str
    plan: str
    status: Status = "running"
    attempt: int = 1
    start: int = 0
    dropped: tuple[int, ...] = ()
    reshuffles: tuple[tuple[int, int], ...] = ()
    skipped: tuple[tuple[int, tuple[int, ...]], ...] = ()
    lr_scale: float = 1.0
    best_checkpoint: int = 0
    failures: int = 0
    rollbacks: int = 0
    judged: tuple[Judged, ...] = ()
    origin: str = ""
    plan_version: int = 1
    offered: int | None = None
    settled: Settled | None = None

    @property
    def to_offer(self) -> int:
        """The step that is offered for promotion at the end; 0 for none."""
        return self.best_checkpoint if self.offered is None else self.offered

    def of(self, step: int) -> Judged | None:
        """The judgement on the checkpoint that stands at a step now."""
        for judged in reversed(self.judged):
            if judged.step == step and judged.outcome != "fail":
                return judged
        return None

    def is_judged(self, step: int) -> bool:
        """Whether this attempt's checkpoint at a step needs no further look."""
        if step <= self.start and self.of(step) is not None:
            return True
        return any(j.step == step and j.attempt == self.attempt for j in self.judged)

    def with_judged(self, judged: Judged) -> TrainingState:
        return replace(self, judged=(*self.judged, judged))


def save_state(path: Path, state: TrainingState) -> None:
    write_atomic(path, json.dumps(asdict(state), indent=1, ensure_ascii=False) + "\n")


def load_state(path: Path) -> TrainingState | None:
    """The state, or None where the training never began. Raises UserError for a damaged file."""
    if not path.exists():
        return None
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        raw["judged"] = tuple(
            Judged(**{**judged, "verdicts": tuple(judged["verdicts"])}) for judged in raw["judged"]
        )
        raw["dropped"] = tuple(raw["dropped"])
        raw["reshuffles"] = tuple((after, seed) for after, seed in raw["reshuffles"])
        raw["skipped"] = tuple((after, tuple(rows)) for after, rows in raw.get("skipped", ()))
        if "crest" in raw:  # as the best checkpoint was called at first
            raw["best_checkpoint"] = raw.pop("crest")
        if raw.get("settled") is not None:
            raw["settled"] = Settled(**raw["settled"])
        return TrainingState(**raw)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the training's state can't be read: {error}",
            file=path,
            hint="move the training's folder away to begin anew; its scores stay in the store",
        ) from None
