"""How long a training took so far, and still takes, estimated from its own segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from harness.core.types import Row

LAST = 5
"""Segments whose median counts: enough against one slow one, few enough to follow a change."""

STEPS = 20


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds to the end, never negative.

    segments    whole segments, from checkpoint to checkpoint, that it is based on; each holds the
                scoring of the checkpoint that it began with. 0: steps alone, scoring left out
    segment_s   seconds of such a segment, their median; None without one
    """

    seconds: float
    segments: int
    segment_s: float | None


def time_left(
    planned: int, steps: Sequence[Row], events: Sequence[Row], now: datetime
) -> Left | None:
    """What is left of `planned` steps without further rollbacks; None while nothing is known.

    `steps` (step, attempt, happened_at) and `events` (event, step, attempt, happened_at) are oldest
    first. A segment is timed by the wall, so that scoring and saving are in it, whether training
    waits for them or not; one across an interruption is not counted.
    """
    pace = _seconds_a_step(steps)
    segments = _segments(events)[-LAST:]
    at, since = _stand(events)
    if not segments or since is None:
        return None if pace is None else Left(pace * max(planned - _step(steps), 0), 0, None)
    length, seconds = (median(part) for part in zip(*segments, strict=True))
    scoring = max(seconds - length * pace, 0.0) if pace is not None else 0.0
    whole = (planned - at) / length * seconds + scoring
    return Left(max(whole - (now - since).total_seconds(), 0.0), len(segments), seconds)


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the wall that a training took, stops left out.

    training_s   of them between one step and the next; the rest went into scoring, saving, loading
    """

    seconds: float
    training_s: float


def spent(steps: Sequence[Row], events: Sequence[Row]) -> Spent | None:
    """What a training took, from the moments of its steps and events, both oldest first.

    What lies before it was resumed is a stop. None before its second moment.
    """
    told = [(row["happened_at"], "step") for row in steps]
    told += [(row["happened_at"], str(row["event"])) for row in events]
    # Of the same moment the step is first: a checkpoint is made of it.
    told.sort(key=lambda one: (one[0], one[1] != "step"))
    if len(told) < 2:
        return None
    seconds = training = 0.0
    for (before, first), (after, second) in pairwise(told):
        passed = (after - before).total_seconds()
        if second != "resumed":
            seconds += passed
            training += passed if first == second == "step" else 0.0
    return Spent(seconds, training)


def duration_parts(seconds: float) -> tuple[str, str]:
    """A number and the unit it is said in: `{n} s`, `{n} min` or `{n} h`."""
    if seconds < 100:
        return str(round(seconds)), "{n} s"
    if seconds < 6_000:
        return str(round(seconds / 60)), "{n} min"
    return f"{seconds / 3_600:.1f}", "{n} h"


def _segments(events: Sequence[Row]) -> list[tuple[int, float]]:
    """(steps, seconds) from each checkpoint to the next of the same attempt, without a stop."""
    found, before = [], None
    for event in events:
        if event["event"] in ("rolled_back", "resumed", "interrupted", "started"):
            before = None
        elif event["event"] == "checkpoint":
            if before is not None and event["step"] > before["step"]:
                passed = (event["happened_at"] - before["happened_at"]).total_seconds()
                found.append((event["step"] - before["step"], passed))
            before = event
    return found


def _stand(events: Sequence[Row]) -> tuple[int, datetime | None]:
    """The step from which the present segment set out, and when it did."""
    at, since = 0, None
    for event in events:
        if event["event"] == "checkpoint":
            at, since = event["step"], event["happened_at"]
        elif event["event"] == "rolled_back":
            at, since = (event["detail"] or {}).get("to", 0), event["happened_at"]
        elif event["event"] == "resumed":
            since = event["happened_at"]
    return at, since


def _seconds_a_step(steps: Sequence[Row]) -> float | None:
    """The median of the last gaps, which a checkpoint's scoring between two steps doesn't move."""
    gaps = [
        (after["happened_at"] - before["happened_at"]).total_seconds()
        / (after["step"] - before["step"])
        for before, after in pairwise(steps[-STEPS - 1 :])
        if after["attempt"] == before["attempt"] and after["step"] > before["step"]
    ]
    return median(gaps) if gaps else None


def _step(steps: Sequence[Row]) -> int:
    return int(steps[-1]["step"]) if steps else 0
