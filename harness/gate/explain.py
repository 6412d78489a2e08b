"""A verdict in plain words: the numbers, and sentences that say what decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from harness.core.format import _signed, number, percent, share
from harness.core.types import Direction, VerdictOutcome
from harness.gate.verdict import MetricVerdict, Verdict


def in_percent(row: MetricVerdict) -> bool:
    """Whether a row's change reads better as a share of the anchor than in the metric's unit."""
    found = row.measured
    if found.relative is None or found.scale != "ratio" or found.form == "winshare":
        return False
    if (row.allowed.relative or 0.0) > 1.0:
        return False
    unmoved = found.interval is None and abs(found.relative) < 1e-12
    return unmoved or (found.relative_interval is not None and abs(found.relative) <= 1.0)


def change_of(row: MetricVerdict) -> str:
    """The change, signed: `−12%` or `−0.55`."""
    if in_percent(row):
        return percent(row.measured.relative, signed=True)
    return _step(row.measured.change, _largest(row))


def interval_of(row: MetricVerdict) -> str:
    """The change's interval in the same unit, `[−13, −7]`; empty where there is none."""
    bounds = row.measured.relative_interval if in_percent(row) else row.measured.interval
    if bounds is None:
        return ""
    if in_percent(row):
        low, high = (percent(bound, signed=True).removesuffix("%") for bound in bounds)
    else:
        low, high = (_step(bound, _largest(row)) for bound in bounds)
    return f"[{low}, {high}]"


def _largest(row: MetricVerdict) -> float:
    found = row.measured
    return float(max(abs(x) for x in (found.change or 0.0, *(found.interval or ()))))


def _step(value: float | None, largest: float) -> str:
    """A difference with as many digits as suit `largest`, the largest number beside it."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = 2 if 0.1 <= largest < 100 else 3 if 0.01 <= largest < 0.1 else 4
    if largest >= 100:
        digits = 0
    if largest == 0:
        digits = 2
    text = f"{abs(value):,.{digits}f}"
    return _signed(text, value, True)


def allowed_of(row: MetricVerdict) -> str:
    """What the margin allows, in the unit in which the change is shown."""
    allowed = row.allowed
    if allowed.limit is not None:
        return f"{'≥' if allowed.requirement == 'at least' else '≤'} {number(allowed.limit)}"
    if in_percent(row):
        return percent(allowed.relative, signed=True)
    return number(allowed.change, signed=True)


def evidence_of(row: MetricVerdict) -> str:
    """`60 samples`, `600 samples in 60 clusters`."""
    n, clusters = row.measured.n, row.measured.clusters
    if row.allowed.requirement is not None:
        return f"{n:,} responses"
    grouped = f" in {clusters:,} clusters" if clusters not in (0, n) else ""
    return f"{n:,} sample{'s' if n != 1 else ''}{grouped}"


def in_margins(value: float, allowed: float, direction: Direction) -> float:
    """A change as a multiple of the worst one `allowed`: 0 no change, −1 the margin, + is better.

    `value` and `allowed` are in the metric's unit, `allowed` signed like harm. Where nothing is
    allowed any change is beyond every multiple: an infinity.
    """
    better = value if direction == "higher" else -value
    if value == 0:
        return 0.0
    return better / abs(allowed) if allowed else math.copysign(math.inf, better)


def row_in_margins(row: MetricVerdict) -> tuple[float, float, float] | None:
    """A row's change and the ends of its interval, low first, as `in_margins`.

    None where no change was measured or none is limited, as in an absolute requirement.
    """
    allowed, change = row.allowed.change, row.measured.change
    if allowed is None or change is None or row.allowed.requirement is not None:
        return None
    ends = row.measured.interval or (change, change)
    at, low, high = (
        in_margins(value, allowed, row.measured.direction) for value in (change, *ends)
    )
    return at, min(low, high), max(low, high)


def moved_from_to(row: MetricVerdict) -> str:
    """`fell from 0.700 to 0.000`: which way the number moved, not whether that is good."""
    found = row.measured
    if found.change is None:
        return f"is {number(found.candidate)}"
    if abs(found.change) < 1e-12:
        return f"stayed at {number(found.candidate)}"
    verb = "rose" if found.change > 0 else "fell"
    return f"{verb} from {number(found.anchor)} to {number(found.candidate)}"


def margin_of(row: MetricVerdict) -> str:
    """`5%`, or the floor where the scale has no zero, or both."""
    allowed = row.allowed
    if row.measured.scale == "interval":
        return number(allowed.floor)
    floor = f" and {number(allowed.floor)}" if allowed.floor else ""
    return f"{share(allowed.margin or 0.0)}{floor}"


def why(row: MetricVerdict) -> str:
    """One sentence: what decided this row."""
    decided = row.decided
    if row.outcome is VerdictOutcome.INCOMPARABLE:
        return f"{row.name} can't be compared: {decided.reason}."
    if decided.arm == "lost":
        return f"{row.name} can't be decided: {decided.reason}."
    if row.allowed.requirement is not None:
        return _why_required(row)
    fact = f"{row.name} {moved_from_to(row)} on {evidence_of(row)}"
    if row.waived:
        return f"{fact}; it is waived: {decided.reason}."
    if decided.arm == "strict":
        return f"{fact}: more than the {margin_of(row)} allowed ({p_value(row)})."
    if decided.arm == "drop":
        return (
            f"{fact}: a drop is proven ({p_value(row)}), and its best estimate is more than "
            f"the {margin_of(row)} allowed."
        )
    if decided.arm == "point":
        beyond = "more than" if row.outcome is VerdictOutcome.FAIL else "within"
        return f"{fact}: {beyond} the {margin_of(row)} allowed, by the bare comparison of means."
    if decided.arm == "earlier":
        return f"{fact}; it passed at an earlier look."
    if row.outcome is VerdictOutcome.PASS:
        return f"{fact}: shown to be within {margin_pass(row)}."
    return f"{fact}: neither worse than {margin_of(row)} nor within it could be shown."


def margin_pass(row: MetricVerdict) -> str:
    """The margin it passed at; where that is wider than δ, both."""
    allowed = row.allowed
    if allowed.widened:
        seen = f"{share(allowed.margin or 0.0)} can't be seen with {evidence_of(row)}"
        return f"{share(allowed.pass_margin or 0.0)} ({seen})"
    return margin_of(row)


def p_value(row: MetricVerdict) -> str:
    """`p = 0.0123`: Holm's adjusted value of what decided the row."""
    p = row.decided.p_adjusted
    if p is None:
        return "p unknown"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def _why_required(row: MetricVerdict) -> str:
    bound = f"{row.allowed.requirement} {number(row.allowed.limit)}"
    fact = f"{row.metric} is {number(row.measured.candidate)} on {evidence_of(row)}"
    if row.outcome is VerdictOutcome.FAIL:
        return f'{fact}: the requirement "{bound}" is broken ({p_value(row)}).'
    if row.outcome is VerdictOutcome.PASS:
        return f"{fact}: shown to be {bound}."
    return f'{fact}: "{bound}" is neither shown nor broken.'


def headline(outcome: VerdictOutcome, rows: Sequence[MetricVerdict], reasons: Sequence[str]) -> str:
    """The verdict in one sentence."""
    deciding = [row for row in rows if row.binding]
    if outcome is VerdictOutcome.FAIL:
        failed = [row for row in deciding if row.outcome is VerdictOutcome.FAIL]
        failed.sort(key=lambda row: _or_one(row.decided.p_adjusted))
        more = f" Also failed: {_names(failed[1:])}." if len(failed) > 1 else ""
        return f"FAIL: {why(failed[0])}{more}"
    if outcome is VerdictOutcome.INCOMPARABLE:
        first = next((r for r in deciding if r.outcome is VerdictOutcome.INCOMPARABLE), None)
        return f"INCOMPARABLE: {why(first) if first else (*reasons, 'nothing was compared.')[0]}"
    required = [row for row in deciding if row.required]
    if outcome is VerdictOutcome.PASS:
        widest = max((row.allowed.pass_margin or 0.0 for row in required), default=0.0)
        wide = [row for row in required if row.allowed.widened]
        note = f" {why(max(wide, key=lambda r: r.allowed.pass_margin or 0))}" if wide else ""
        said = f"all {len(required)} required checks are within their margins"
        if len(required) == 1:
            said = f"{required[0].name}, the one required check, is within its margin"
        at = f" at {share(widest)}" if wide else ""
        return f"PASS{at}: {said}.{note}"
    open_rows = [row for row in required if row.outcome is not VerdictOutcome.PASS]
    if not open_rows:
        return "INCONCLUSIVE: no metric is required, so nothing could pass."
    most = max(open_rows, key=lambda row: _or_one(row.decided.p_within))
    count = f" ({len(open_rows)} of {len(required)} required checks are open)"
    return f"INCONCLUSIVE: {why(most)[:-1]}{count if len(required) > 1 else ''}."


def _counted(row: MetricVerdict) -> str:
    return "responses" if row.allowed.requirement else "samples"


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p


def _names(rows: Sequence[MetricVerdict]) -> str:
    names = [row.name for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def settles(outcome: VerdictOutcome, rows: Sequence[MetricVerdict], last: bool) -> str:
    """What would settle an inconclusive verdict, in one sentence; empty where it is settled."""
    if outcome is not VerdictOutcome.INCONCLUSIVE:
        return ""
    open_rows = [
        row
        for row in rows
        if row.required and row.outcome is VerdictOutcome.INCONCLUSIVE and not row.waived
    ]
    if not open_rows:
        return "Mark at least one metric as required."
    said = [] if last else ["The next look adds evidence."]
    lost = [row.name for row in open_rows if row.decided.arm == "lost"]
    if lost:
        said.append(f"Score again: this retries what was lost of {', '.join(lost[:3])}.")
    open_rows = [row for row in open_rows if row.decided.arm != "lost"]
    needs = [
        f"about {row.decided.needed:,} {_counted(row)} for {row.name}"
        for row in open_rows[:3]
        if row.decided.needed and not row.enough
    ]
    if needs:
        said.append(f"If nothing really changed, PASS would take {'; '.join(needs)}.")
    enough = [row for row in open_rows[:3] if row.enough]
    lost_some = [row.name for row in enough if lost_within(row)]
    if lost_some:
        said.append(
            f"{', '.join(lost_some)} got worse, by less than the margin, on enough evidence to "
            "pass a model that did not change: accept that loss or reject it, since more samples "
            "will hardly settle it."
        )
    others = [row.name for row in enough if not lost_within(row)]
    if others:
        said.append(
            f"{', '.join(others)} had enough evidence to pass a model that did not change: there "
            "may be a real loss."
        )
    for cause, words in _STUCK.items():
        stuck = [row.name for row in open_rows[:3] if stuck_by(row) == cause]
        if stuck:
            said.append(f"{words}: {', '.join(stuck)}.")
    return " ".join(said)


def lost_within(row: MetricVerdict) -> bool:
    """Whether the best estimate of a row is a loss that is smaller than the margin."""
    found = row_in_margins(row)
    return found is not None and -1 < found[0] < 0


Stuck = Literal["limit", "single", "zero", "margin"]
_STUCK: dict[Stuck, str] = {
    "limit": "More evidence like this can't show that the requirement is kept",
    "single": "One independent sample has no spread to judge by, so at least two are needed",
    "zero": "The margin is a share of the anchor's value, which is 0, so only a gain can pass "
    "unless a `floor` allows more",
    "margin": "With a margin of 0 only a gain can pass",
}


def stuck_by(row: MetricVerdict) -> Stuck | None:
    """Why no number of samples would do for a row that is open; None where some number would.

    limit    what was seen of a requirement is at its limit or beyond
    single   one sample or one cluster: no standard error
    zero     the margin is a share of an anchor's value that is 0
    margin   the margin itself is 0
    """
    if row.decided.needed:
        return None
    if row.allowed.requirement is not None:
        return "single" if _within_limit(row) else "limit"
    if row.decided.se is None:
        return "single"
    return "zero" if max(row.allowed.margin or 0.0, row.allowed.pass_margin or 0.0) else "margin"


def _within_limit(row: MetricVerdict) -> bool:
    seen, limit = row.measured.candidate, row.allowed.limit
    if seen is None or limit is None:
        return False
    return seen > limit if row.allowed.requirement == "at least" else seen < limit


def sentences(verdict: Verdict) -> list[str]:
    """The headline first, then what else must be known, then what would settle it."""
    more = (s for s in (*verdict.reasons, verdict.settle) if s and s not in verdict.headline)
    return [verdict.headline, *more]


def explain(verdict: Verdict) -> str:
    """Headline, what else must be known, and what would settle it, as plain sentences."""
    return " ".join(sentences(verdict))
