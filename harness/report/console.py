"""A verdict at the terminal: one table and the sentences under it, from 80 columns up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.format import number
from harness.core.types import VerdictOutcome
from harness.gate.explain import allowed_of, change_of, interval_of, sentences
from harness.gate.verdict import MetricVerdict, Verdict

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

__all__ = ["STYLES", "moved_table", "verdict_table", "verdict_view"]

STYLES = {
    VerdictOutcome.PASS: "green",
    VerdictOutcome.FAIL: "bold red",
    VerdictOutcome.INCONCLUSIVE: "yellow",
    VerdictOutcome.INCOMPARABLE: "magenta",
}
WIDE = 90
ROLES = ("required", "watched", "advisory")


@dataclass(frozen=True, slots=True)
class _VerdictTable:
    """Knows its width only when it is drawn: long names are broken where there is no room."""

    verdict: Verdict

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.verdict, long_name=20 if options.max_width >= WIDE else 12)


def asked(generated: int, read: int) -> str:
    """What was asked of a model, in words: answers that it wrote, and given texts that it read."""
    parts = [f"{generated} answers generated"] if generated or not read else []
    return ", ".join([*parts, f"{read} texts read"] if read else parts)


def verdict_table(verdict: Verdict) -> RenderableType:
    """Metric, anchor, candidate, change with interval, margin, verdict: required ones first.

    Change, interval and margin of a row share one unit: percent of the anchor where that means
    something, else the metric's own. Required metrics are bold; advisory ones are dim, with
    their verdict in brackets, because it decides nothing.
    """
    return _VerdictTable(verdict)


def _table(verdict: Verdict, long_name: int) -> Table:
    from rich.text import Text

    table = _bare_table()
    table.add_column("metric", overflow="fold", min_width=12)
    table.add_column("anchor", justify="right", no_wrap=True)
    table.add_column("candidate", justify="right", no_wrap=True)
    table.add_column(f"change [{verdict.level:.0%}]", justify="left", no_wrap=True)
    table.add_column("margin", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for role in ROLES:
        for row in (row for row in verdict.rows if row.role == role):
            base = {"required": "bold", "watched": "", "advisory": "dim"}[role]
            table.add_row(
                Text(_folded(row, long_name), style=base),
                Text(number(row.measured.anchor), style=base),
                Text(number(row.measured.candidate), style=base),
                Text(_change(row), style=base),
                Text(allowed_of(row), style=base),
                Text(_word(row), style=_style(row)),
            )
        table.add_section()
    return table


def verdict_view(verdict: Verdict, *, samples: int = 0) -> RenderableType:
    """The table, the sentence under it and, where asked for, the samples that moved most."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [verdict_table(verdict), Text("")]
    parts.append(Text(verdict.headline, style=STYLES[verdict.outcome]))
    parts.extend(Text(sentence) for sentence in sentences(verdict)[1:])
    if samples:
        parts.extend(_moved_of(verdict, samples))
    return Group(*parts)


def moved_table(row: MetricVerdict, limit: int = 10) -> Table:
    """The samples of one metric that moved most, the largest change first."""
    from rich.text import Text

    table = _bare_table()
    table.add_column(f"{row.name}: moved most", overflow="fold")
    for name in ("anchor", "candidate", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    for moved in row.measured.moved[:limit]:
        style = "red" if moved.z > 0 else "green"
        table.add_row(
            Text(moved.id),
            number(moved.anchor),
            number(moved.candidate),
            Text(number(moved.z, signed=True), style=style),
        )
    return table


def _moved_of(verdict: Verdict, samples: int) -> list[RenderableType]:
    from rich.text import Text

    rows = [r for r in verdict.failing() if r.measured.moved] or [
        r for r in verdict.rows if r.required and r.measured.moved
    ]
    return [part for row in rows for part in (Text(""), moved_table(row, samples))]


def _bare_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)


def _folded(row: MetricVerdict, long_name: int) -> str:
    """The row's name, broken where a reader would break it once it is long."""
    label = f"{row.metric}[{row.slice}]" if row.slice is not None else row.metric
    task, slash, metric = label.partition("/")
    if len(label) > long_name and slash:
        label = f"{task}/\n  {metric}"
    return f"{label}\n  {row.allowed.requirement}" if row.allowed.requirement else label


def _change(row: MetricVerdict) -> str:
    return " ".join(part for part in (change_of(row), interval_of(row)) if part)


def _word(row: MetricVerdict) -> str:
    word = "waived" if row.waived else row.outcome.value
    return f"({word})" if row.role == "advisory" else word


def _style(row: MetricVerdict) -> str:
    return "dim" if row.role == "advisory" or row.waived else STYLES[row.outcome]
