"""A verdict in plain words: the numbers, and sentences that say what decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.format import _signed, number, percent, share
from harness.core.types import VerdictOutcome
from harness.gate.verdict import MetricVerdict, Verdict


def in_percent(row: MetricVerdict) -> bool:
    """Whether a row's change reads better as a share of the anchor than in the metric's unit."""
    if row.relative is None or row.scale != "ratio" or row.form == "winshare":
        return False
    if (row.allowed_relative or 0.0) > 1.0:
        return False
    unmoved = row.interval is None and abs(row.relative) < 1e-12
    return unmoved or (row.relative_interval is not None and abs(row.relative) <= 1.0)


def change_of(row: MetricVerdict) -> str:
    """The change, signed: `−12%` or `−0.55`."""
    if in_percent(row):
        return percent(row.relative, signed=True)
    return _step(row.change, _largest(row))


def interval_of(row: MetricVerdict) -> str:
    bounds = row.relative_interval if in_percent(row) else row.interval
    if bounds is None:
        return ""
    if in_percent(row):
        low, high = (percent(bound, signed=True).removesuffix("%") for bound in bounds)
    else:
        low, high = (_step(bound, _largest(row)) for bound in bounds)
    return f"[{low}, {high}]"


def _largest(row: MetricVerdict) -> float:
    return float(max(abs(x) for x in (row.change or 0.0, *(row.interval or ()))))


def _step(value: float | None, largest: float) -> str:
    """A difference, with two digits of the largest that stands beside it."""
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
    if row.limit is not None:
        return f"{'≥' if row.requirement == 'at least' else '≤'} {number(row.limit)}"
    if in_percent(row):
        return percent(row.allowed_relative, signed=True)
    return number(row.allowed, signed=True)


def evidence_of(row: MetricVerdict) -> str:
    """`60 samples`, `600 samples in 60 clusters`."""
    if row.requirement is not None:
        return f"{row.n:,} responses"
    grouped = f" in {row.clusters:,} clusters" if row.clusters not in (0, row.n) else ""
    return f"{row.n:,} sample{'s' if row.n != 1 else ''}{grouped}"


def moved_from_to(row: MetricVerdict) -> str:
    """`fell from 0.700 to 0.000`; up and down are the number's, good and bad the sentence's."""
    if row.change is None:
        return f"is {number(row.candidate)}"
    if abs(row.change) < 1e-12:
        return f"stayed at {number(row.candidate)}"
    verb = "rose" if row.change > 0 else "fell"
    return f"{verb} from {number(row.anchor)} to {number(row.candidate)}"


def margin_of(row: MetricVerdict) -> str:
    """`5%`, or the floor where the scale has no zero, or both."""
    if row.scale == "interval":
        return number(row.floor)
    floor = f" and {number(row.floor)}" if row.floor else ""
    return f"{share(row.margin or 0.0)}{floor}"


def why(row: MetricVerdict) -> str:
    """One sentence: what decided this row."""
    if row.outcome is VerdictOutcome.INCOMPARABLE:
        return f"{row.name} can't be compared: {row.reason}."
    if row.arm == "lost":
        return f"{row.name} can't be decided: {row.reason}."
    if row.requirement is not None:
        return _why_required(row)
    fact = f"{row.name} {moved_from_to(row)} on {evidence_of(row)}"
    if row.arm == "waived":
        return f"{fact}; it is waived: {row.reason}."
    if row.arm == "strict":
        return f"{fact}: more than the {margin_of(row)} allowed ({p_value(row)})."
    if row.arm == "drop":
        return (
            f"{fact}: a drop is proven ({p_value(row)}), and its best estimate is more than "
            f"the {margin_of(row)} allowed."
        )
    if row.arm == "point":
        beyond = "more than" if row.outcome is VerdictOutcome.FAIL else "within"
        return f"{fact}: {beyond} the {margin_of(row)} allowed, by the bare comparison of means."
    if row.arm == "earlier":
        return f"{fact}; it passed at an earlier look."
    if row.outcome is VerdictOutcome.PASS:
        return f"{fact}: shown to be within {margin_pass(row)}."
    return f"{fact}: neither worse than {margin_of(row)} nor within it could be shown."


def margin_pass(row: MetricVerdict) -> str:
    """The margin it passed at; where that is wider than δ, both."""
    wide = row.pass_margin is not None and row.margin is not None and row.pass_margin > row.margin
    if wide and row.pass_margin is not None and row.margin is not None:
        seen = f"{share(row.margin)} can't be seen with {evidence_of(row)}"
        return f"{share(row.pass_margin)} ({seen})"
    return margin_of(row)


def p_value(row: MetricVerdict) -> str:
    p = row.p_adjusted
    if p is None:
        return "p unknown"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}" if p < 0.1 else f"p = {p:.2f}"


def _why_required(row: MetricVerdict) -> str:
    bound = f"{row.requirement} {number(row.limit)}"
    fact = f"{row.metric} is {number(row.candidate)} on {evidence_of(row)}"
    if row.outcome is VerdictOutcome.FAIL:
        return f'{fact}: the requirement "{bound}" is broken ({p_value(row)}).'
    if row.outcome is VerdictOutcome.PASS:
        return f"{fact}: shown to be {bound}."
    return f'{fact}: "{bound}" is neither shown nor broken.'


def headline(outcome: VerdictOutcome, rows: Sequence[MetricVerdict], reasons: Sequence[str]) -> str:
    """The verdict in one sentence."""
    deciding = [row for row in rows if row.role != "advisory" and row.arm != "waived"]
    if outcome is VerdictOutcome.FAIL:
        failed = [row for row in deciding if row.outcome is VerdictOutcome.FAIL]
        failed.sort(key=lambda row: row.p_adjusted if row.p_adjusted is not None else 1.0)
        more = f" So did {_names(failed[1:])}." if len(failed) > 1 else ""
        return f"FAIL: {why(failed[0])}{more}"
    if outcome is VerdictOutcome.INCOMPARABLE:
        first = next((r for r in deciding if r.outcome is VerdictOutcome.INCOMPARABLE), None)
        return f"INCOMPARABLE: {why(first) if first else (*reasons, 'nothing was compared.')[0]}"
    required = [row for row in deciding if row.required]
    if outcome is VerdictOutcome.PASS:
        widest = max((row.pass_margin or 0.0 for row in required), default=0.0)
        wide = [row for row in required if (row.pass_margin or 0) > (row.margin or 0)]
        note = f" {why(max(wide, key=lambda r: r.pass_margin or 0))}" if wide else ""
        said = f"all {len(required)} required checks are within their margins"
        if len(required) == 1:
            said = f"{required[0].name}, the one required check, is within its margin"
        at = f" at {share(widest)}" if wide else ""
        return f"PASS{at}: {said}.{note}"
    open_rows = [row for row in required if row.outcome is not VerdictOutcome.PASS]
    if not open_rows:
        return "INCONCLUSIVE: no metric is required, so nothing could pass."
    most = max(open_rows, key=lambda row: row.p_within if row.p_within is not None else 1.0)
    count = f" ({len(open_rows)} of {len(required)} required checks are open)"
    return f"INCONCLUSIVE: {why(most)[:-1]}{count if len(required) > 1 else ''}."


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
        if row.required and row.outcome is VerdictOutcome.INCONCLUSIVE and row.arm != "waived"
    ]
    if not open_rows:
        return "Mark at least one metric as required."
    said = [] if last else ["The next look adds evidence."]
    lost = [row.name for row in open_rows if row.arm == "lost"]
    if lost:
        said.append(f"Score again: what was lost of {', '.join(lost[:3])} is tried anew.")
    open_rows = [row for row in open_rows if row.arm != "lost"]
    needs = [
        f"about {row.needed:,} {'responses' if row.requirement else 'samples'} for {row.name}"
        for row in open_rows[:3]
        if row.needed and row.needed > row.n
    ]
    if needs:
        said.append(f"If nothing really changed, PASS would take {'; '.join(needs)}.")
    enough = [row.name for row in open_rows[:3] if row.needed and row.needed <= row.n]
    if enough:
        said.append(
            f"{', '.join(enough)} had enough evidence for a model that did not change: a real loss "
            "smaller than the margin looks like this."
        )
    stuck = [row.name for row in open_rows[:3] if not row.needed]
    if stuck:
        said.append(f"With a margin of 0 only a gain can pass: {', '.join(stuck)}.")
    return " ".join(said)


def sentences(verdict: Verdict) -> list[str]:
    """The headline first, then what else must be known, then what would settle it."""
    more = (s for s in (*verdict.reasons, verdict.settle) if s and s not in verdict.headline)
    return [verdict.headline, *more]


def explain(verdict: Verdict) -> str:
    """Headline, what else must be known, and what would settle it, as plain sentences."""
    return " ".join(sentences(verdict))
