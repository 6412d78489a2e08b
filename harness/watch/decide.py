"""From evidence to a verdict on a served model. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from harness.watch.verdict import SignalVerdict, WatchOutcome, WatchVerdict

__all__ = ["SignalVerdict", "WatchVerdict", "overall"]


def overall(signals: Iterable[SignalVerdict]) -> WatchOutcome:
    """`fail` where a required signal failed, `pass` where all of them passed (one at least)."""
    outcomes = [signal.outcome for signal in signals if signal.required]
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes and set(outcomes) == {"pass"} else "inconclusive"
