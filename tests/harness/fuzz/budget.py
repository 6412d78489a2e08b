"""How long fuzzers run: all of them together at least ten minutes of `make test-all`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from harness.core.errors import UserError

TOTAL_S = float(os.environ.get("RATCHET_FUZZ_S", "660"))
"""Seconds for all fuzzers together, divided by their shares."""

SHARES = {"code": 0.2, "json": 0.1, "importers": 0.35, "files": 0.35}
"""Who gets which part. A room that has no fuzzer yet leaves its part to no one else."""

BATCH = 200


def rounds(room: str, parts: int = 1) -> Iterator[int]:
    """Seeds 0, 1, 2 … for as long as a room's share of the time lasts, over `parts` tests."""
    until = time.monotonic() + TOTAL_S * SHARES[room] / parts
    number = 0
    while number == 0 or time.monotonic() < until:
        yield number
        number += 1


def fuzz(room: str, inputs: st.SearchStrategy[Any], body: Callable[[Any], object],
         parts: int = 1) -> None:  # fmt: skip
    """Call `body` on inputs: a value or a `UserError` is right, all else is a failure.

    The inputs depend on the round's number alone, so that a failure comes again; hypothesis shrinks
    it before it is shown.
    """

    def once(value: Any) -> None:
        with contextlib.suppress(UserError):
            body(value)

    for number in rounds(room, parts):
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        run = settings(max_examples=BATCH, deadline=None, database=None,
                       suppress_health_check=checks)(given(inputs)(once))  # fmt: skip
        seed(number)(run)()
