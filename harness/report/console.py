"""A verdict at the terminal: one table, one sentence under it. Reads well from 60 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.format import number
from harness.core.types import VerdictOutcome
from harness.gate.explain import allowed_of, change_of, interval_of, sentences
from harness.gate.verdict import MetricVerdict, Verdict
from harness.report.reading_order import folded_sentence, folds, in_order
from harness.report.table import FittedTable

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["STYLES", "moved_table", "verdict_table", "verdict_view"]

STYLES = {
    VerdictOutcome.PASS: "green",
    VerdictOutcome.FAIL: "bold red",
    VerdictOutcome.INCONCLUSIVE: "yellow",
    VerdictOutcome.INCOMPARABLE: "magenta",
}
ROLES = {
    "required": ("bold", ""),
    "watched": ("", "watched: must not fail, may stay open"),
    "advisory": ("dim", "advisory: decide nothing"),
}
"""The style of each role's rows, and what a line above them says."""


def asked(generated: int, read: int) -> str:
    """A model's work in words: the answers that it generated, and the given texts that it read."""
    parts = [f"{generated} answers generated"] if generated or not read else []
    return ", ".join([*parts, f"{read} texts read"] if read else parts)


def verdict_table(verdict: Verdict, *, everything: bool = False, more: str = "") -> RenderableType:
    """A table of metric, anchor, candidate, change, interval, margin and verdict, required first.

    Change, interval and margin of a row share one unit: percent of the anchor where that means
    something, else the metric's own. Advisory metrics fold into one line, unless `everything` is
    true; their verdict stands in brackets, because it decides nothing. `more` ends that line with
    how to see them: `--all shows them`.
    """
    from rich.console import Group
    from rich.text import Text

    rows = in_order(verdict)
    folded = [] if everything else [row for row in rows if folds(row, verdict)]
    level = f"[{verdict.level:.0%}]"
    titles = ("metric", "anchor", "candidate", "change", level, "margin", "verdict")
    table = FittedTable(titles, left=frozenset({"verdict"}), ruled=True)
    role = "required"
    for row in (row for row in rows if row not in folded):
        style, said = ROLES[row.role]
        if row.role != role:
            table.say(said)
        role = row.role
        table.add(
            row.name,
            number(row.measured.anchor),
            number(row.measured.candidate),
            change_of(row),
            interval_of(row),
            allowed_of(row),
            Text(_word(row), style=_style(row)),
            style=style,
        )
    if not folded:
        return table
    said = "; ".join(part for part in (folded_sentence(folded), more) if part)
    return Group(table, Text(said, "dim"))


def verdict_view(
    verdict: Verdict, *, samples: int = 0, everything: bool = False, more: str = ""
) -> RenderableType:
    """The table, the sentence under it and, where asked for, the samples that moved most."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        verdict_table(verdict, everything=everything, more=more),
        Text(""),
    ]
    parts.append(Text(verdict.headline, style=STYLES[verdict.outcome]))
    parts.extend(Text(sentence) for sentence in sentences(verdict)[1:])
    if samples:
        parts.extend(_moved_of(verdict, samples))
    return Group(*parts)


def moved_table(row: MetricVerdict, limit: int = 10) -> FittedTable:
    """The samples of one metric that moved most, the largest change first."""
    from rich.text import Text

    table = FittedTable(("sample", "anchor", "candidate", "z"))
    for moved in row.measured.moved[:limit]:
        z = Text(number(moved.z, signed=True), "red" if moved.z > 0 else "green")
        table.add(moved.id, number(moved.anchor), number(moved.candidate), z)
    return table


def _moved_of(verdict: Verdict, samples: int) -> list[RenderableType]:
    from rich.text import Text

    rows = [r for r in verdict.failing() if r.measured.moved] or [
        r for r in verdict.rows if r.required and r.measured.moved
    ]
    return [
        part
        for row in rows
        for part in (Text(f"\n{row.name}: moved most"), moved_table(row, samples))
    ]


def _word(row: MetricVerdict) -> str:
    word = "waived" if row.waived else row.outcome.value
    return f"({word})" if row.role == "advisory" else word


def _style(row: MetricVerdict) -> str:
    return "dim" if row.role == "advisory" or row.waived else STYLES[row.outcome]
