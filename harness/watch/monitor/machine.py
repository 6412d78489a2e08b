"""The machine beneath: how full its processor, memory, disk and cards are, and since when.

Plain limits, and no statistics: a share at or above `at` for long enough is an alarm, which ends
only below `clear`, so that what swings about a limit alarms once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limit:
    """Shares from 0 to 1; `for_s` is in seconds."""

    at: float
    clear: float
    for_s: float


LIMITS: Mapping[str, Limit] = {
    "cpu": Limit(0.95, 0.85, 600),
    "memory": Limit(0.95, 0.90, 300),
    "disk": Limit(0.90, 0.85, 300),
    "gpu_memory": Limit(0.98, 0.95, 300),
}
"""A card that computes all the time is what it is for: its load has no limit."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The used share of one resource, 0 to 1. `device` tells cards apart; empty for the others."""

    resource: str
    used: float
    device: str = ""


@dataclass(frozen=True, slots=True)
class Fullness:
    """Where a resource stands: since when it is over, by a steady clock, and whether it alarms."""

    over_since: float | None = None
    alarms: bool = False


def onward(before: Fullness, used: float, limit: Limit, now: float) -> Fullness:
    """The state after one more reading, at `now` seconds of a steady clock."""
    if used < limit.clear:
        return Fullness()
    if before.alarms:
        return before
    # Between the two limits the clock that runs goes on, and none is begun.
    since = now if before.over_since is None and used >= limit.at else before.over_since
    return Fullness(since, since is not None and now - since >= limit.for_s)


@dataclass(slots=True)
class Machine:
    """All resources of this machine, as read one time after another."""

    limits: Mapping[str, Limit] = field(default_factory=lambda: LIMITS)
    states: dict[tuple[str, str], Fullness] = field(default_factory=dict)

    def take(
        self, readings: Iterator[Reading], now: float
    ) -> list[tuple[Reading, Fullness | None]]:
        """Each reading with where its resource stands; None where it has no limit."""
        found: list[tuple[Reading, Fullness | None]] = []
        for reading in readings:
            limit, name = self.limits.get(reading.resource), (reading.resource, reading.device)
            if limit is None:
                found.append((reading, None))
                continue
            state = onward(self.states.get(name, Fullness()), reading.used, limit, now)
            self.states[name] = state
            found.append((reading, state))
        return found


def readings(folder: Path) -> Iterator[Reading]:
    """What is used now; the disk is the one that `folder` lies on. Cards by NVML, where it is."""
    import psutil

    yield Reading("cpu", psutil.cpu_percent() / 100)  # since the last call
    yield Reading("memory", psutil.virtual_memory().percent / 100)
    with contextlib.suppress(OSError):
        yield Reading("disk", psutil.disk_usage(str(folder)).percent / 100)
    yield from _cards()


def _cards() -> Iterator[Reading]:
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return  # no driver: no card
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            # A card that NVML can't ask (MIG, no permission) is left out, and not the others.
            with contextlib.suppress(pynvml.NVMLError):
                card = pynvml.nvmlDeviceGetHandleByIndex(number)
                memory = pynvml.nvmlDeviceGetMemoryInfo(card)
                yield Reading("gpu_memory", memory.used / memory.total, str(number))
                busy = pynvml.nvmlDeviceGetUtilizationRates(card).gpu
                yield Reading("gpu", busy / 100, str(number))
    finally:
        pynvml.nvmlShutdown()
