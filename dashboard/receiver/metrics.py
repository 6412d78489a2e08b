"""`GET /metrics`, which a Prometheus reads: never slower than a page that is there already."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from dashboard.receiver.exposition import Family, text
from dashboard.receiver.line_metrics import line_families
from harness.core.errors import UserError
from harness.store.store import Store
from harness.watch.monitor.machine import Fullness, Machine, Reading, readings

FRESH_S = 10.0
"""What the store says may be so old, in seconds, before it is read again."""


class Metrics:
    """The last reading of the store. A scrape never waits for the next one, save the first."""

    def __init__(self, store: Store, fresh_s: float = FRESH_S) -> None:
        self._store = store
        self._fresh_s = fresh_s
        self._said = ""
        self._read_at = 0.0
        self._took_s = 0.0
        self._failures = 0
        self._reading: asyncio.Task[None] | None = None
        self._machine = Machine()

    async def page(self, own: Iterable[Family]) -> str:
        """All series: the store's as last read, and `own`, which are of this moment."""
        running = self._reading is not None and not self._reading.done()
        if not running and time.monotonic() - self._read_at > self._fresh_s:
            self._reading = asyncio.create_task(self._read())
        if not self._said and self._reading is not None:
            await self._reading
        return self._said + text([*own, *self._about_itself()])

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            families = await run_in_threadpool(line_families, self._store)
            machine = await run_in_threadpool(self._of_machine)
        except UserError:
            # Another process may hold the store for a while: the age shows it.
            self._failures += 1
            return
        self._said = text([*families, *machine])
        self._took_s = time.monotonic() - began
        self._read_at = time.monotonic()

    def _of_machine(self) -> list[Family]:
        taken = self._machine.take(readings(self._store.workspace.home), time.monotonic())
        return machine_families(taken)

    def _about_itself(self) -> Sequence[Family]:
        found = [
            Family(
                "ratchet_store_read_failures_total",
                "How often the store could not be read for this page.",
                [({}, float(self._failures))],
                "counter",
            )
        ]
        if self._read_at:
            age = time.monotonic() - self._read_at
            found += [
                Family(
                    "ratchet_store_read_age_seconds",
                    "How old what this page says of lines is.",
                    [({}, age)],
                ),
                Family(
                    "ratchet_store_read_duration_seconds",
                    "How long reading it took.",
                    [({}, self._took_s)],
                ),
            ]
        return found


def machine_families(taken: Sequence[tuple[Reading, Fullness | None]]) -> list[Family]:
    """What the machine under the receiver uses, and what of it is full."""

    def labels(reading: Reading) -> dict[str, str]:
        return {"resource": reading.resource, "device": reading.device}

    return [
        Family(
            "ratchet_machine_used_ratio",
            "Used share of a resource of the machine that this runs on, 0 to 1.",
            [(labels(reading), reading.used) for reading, _ in taken],
        ),
        Family(
            "ratchet_machine_alarm",
            "1 where a resource has been full for long; 0 again only well below its limit.",
            [(labels(r), float(state.alarms)) for r, state in taken if state is not None],
        ),
    ]


def receiver_families(
    counts: dict[str, Any], turned_away: dict[str, int], in_flight: int, waiting: int
) -> list[Family]:
    """What the receiver itself counts. `in_flight` is in bytes, `waiting` in requests."""
    results = ("accepted", "duplicates", "refused", "ignored")
    return [
        Family(
            "ratchet_receiver_observations_total",
            "Observations that came in, by what became of them.",
            [({"result": name}, float(counts[name])) for name in results],
            "counter",
        ),
        Family(
            "ratchet_receiver_requests_refused_total",
            "Requests that were turned away, by HTTP status.",
            [({"status": status}, float(n)) for status, n in sorted(turned_away.items())],
            "counter",
        ),
        Family(
            "ratchet_receiver_queue_length",
            "Requests that wait to be written to the disk.",
            [({}, float(waiting))],
        ),
        Family(
            "ratchet_receiver_in_flight_bytes",
            "Bytes of all requests that are being read or wait.",
            [({}, float(in_flight))],
        ),
    ]
