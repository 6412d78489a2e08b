"""The order in which people read a verdict's rows, and which of them fold into one line."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.types import VerdictOutcome
from harness.gate.verdict import MetricVerdict, Verdict

_ROLES = {"required": 0, "watched": 1, "advisory": 2}
_DECIDES = {VerdictOutcome.FAIL: 0, VerdictOutcome.INCOMPARABLE: 1}


def in_order(verdict: Verdict) -> list[MetricVerdict]:
    """Required rows, then watched, then advisory ones; first in each what decided the verdict."""
    return sorted(
        verdict.rows,
        key=lambda row: (
            _ROLES[row.role],
            _DECIDES.get(row.outcome, 2) if not row.waived else 2,
        ),
    )


def folds(row: MetricVerdict, verdict: Verdict) -> bool:
    """Whether a row is folded into one line: advisory ones, where there are others to show."""
    return row.role == "advisory" and any(other.role != "advisory" for other in verdict.rows)


def folded_sentence(rows: Sequence[MetricVerdict]) -> str:
    """`4 advisory metrics: no change to see`, or how many of them moved which way."""
    kinds = [_seen(row) for row in rows]
    what = f"{len(rows)} advisory metric{'s' if len(rows) != 1 else ''}"
    counts = {kind: kinds.count(kind) for kind in _KINDS if kind in kinds}
    if len(counts) == 1:
        return f"{what}: {next(iter(counts))}"
    return f"{what}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"


_KINDS = ("worse", "better", "can't be compared", "no change to see")


def _seen(row: MetricVerdict) -> str:
    """What an advisory row shows, as one of `_KINDS`: worse or better where the interval of the
    change leaves out 0, or where the row failed.
    """
    if row.outcome is VerdictOutcome.INCOMPARABLE:
        return "can't be compared"
    if row.outcome is VerdictOutcome.FAIL:
        return "worse"
    low, high = row.measured.interval or (0.0, 0.0)
    if low <= 0 <= high:
        return "no change to see"
    return "better" if (low > 0) == (row.measured.direction == "higher") else "worse"
