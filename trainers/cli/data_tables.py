"""A version of a data set at the terminal: its funnel, what is in it, and what differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.escape import visible
from harness.core.types import Row
from harness.data.datasets import Version
from harness.report.table import shortened
from trainers.data.check import Checked
from trainers.data.difference import Difference
from trainers.data.requirements import Figure
from trainers.data.rows import said
from trainers.data.versions import distribution

_SAMPLES = 3


def show_version(version: Version, console: Console, cached: Collection[str] = ()) -> None:
    """The headline, the rows left after each step, and what is in them."""
    meta = version.meta
    rows = meta["rows"]
    console.print(Text(f"{version}  {version.digest}", style="bold"))
    _line(console, f"{_rows(rows['train'])} to train on, {rows['valid']} held out")
    _line(console, str(version.folder), "dim")
    if meta["parents"]:
        _line(console, f"made of {', '.join(p['dataset'] for p in meta['parents'])}")
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("step", no_wrap=True)
    table.add_column("rows left", justify="right")
    table.add_column("dropped", justify="right")
    table.add_column("most of them")
    for step in meta["steps"]:
        first = step["drops"][0]["reason"] if step["drops"] else ""
        dropped = str(step["dropped"]) if step["dropped"] else ""
        why = first or ("done before" if step["step"] in cached else "")
        table.add_row(step["step"], str(step["kept"]), dropped, Text(visible(why)))
    console.print(table)
    console.print()
    show_distribution(meta["distribution"], console)
    show_figures([Figure(**line) for line in meta["requirements"]], console)


def show_figures(figures: Sequence[Figure], console: Console) -> None:
    """A line for each requirement."""
    for figure in figures:
        style = {"holds": "green", "warned": "yellow"}.get(figure.outcome, "red")
        said_of = f"{figure.outcome:<8}{figure.requirement}: {visible(figure.says)}"
        _line(console, said_of, style)


def show_distribution(told: Mapping[str, Any], console: Console) -> None:
    """Languages, lengths, and the shares of classes."""
    total = sum(told["languages"].values())
    shares = {name: count / total for name, count in told["languages"].items()}
    _line(console, f"languages   {_listed(shares)}")
    lengths = told["characters"]
    quantiles = ", ".join(f"{name} {lengths[name]}" for name in lengths)
    _line(console, f"characters  {quantiles}")
    for name, counts in told["columns"].items():
        whole = sum(counts.values())
        listed = _listed({value: n / whole for value, n in counts.items()})
        _line(console, f"{visible(name):<11} {listed}")


def _listed(shares: Mapping[str, float], most: int = 6) -> str:
    items = [f"{visible(name)} {share:.0%}" for name, share in list(shares.items())[:most]]
    more = len(shares) - most
    return ", ".join(items) + (f", and {more} more" if more > 0 else "")


def show_drops(version: Version, console: Console) -> None:
    """Every reason for which rows were dropped, with the first few of them."""
    for step in version.meta["steps"]:
        for drop in step["drops"]:
            console.print()
            head = f"{step['step']}: {visible(drop['reason'])}"
            console.print(Text(f"{head}  {_rows(drop['rows'])}", style="bold"))
            for example in drop["examples"]:
                detail = f" ({visible(example['detail'])})" if example["detail"] else ""
                place = f"{visible(example['file'])} line {example['line']}{detail}"
                _line(console, place, "dim")
                if example["row"]:
                    _line(console, f"  {_excerpt(example['row'], console.width - 6)}")


def show_difference(found: Difference, console: Console) -> None:
    """What came, went and changed, by reason, with samples."""
    old, new = found.old, found.new
    console.print(Text(f"{old} → {new}", style="bold"))
    counts = [sum(map(len, side.values())) for side in (found.came, found.went)]
    _line(
        console,
        f"{_rows(counts[0])} came, {counts[1]} went, {len(found.changed)} changed, "
        f"{found.same} are the same"
        + (f"; {found.moved} changed sides of the split" if found.moved else ""),
    )
    for step in found.steps:
        _line(console, f"step {visible(step)}")
    for word, side, where in (("came", found.came, old), ("went", found.went, new)):
        for reason, rows in side.items():
            console.print()
            why = f"{where}: {reason}"
            console.print(Text(f"{len(rows)} {word}  {visible(why)}", style="bold"))
            _samples(rows, console)
    if found.changed:
        console.print()
        console.print(Text(f"{len(found.changed)} changed", style="bold"))
        for before, after in found.changed[:_SAMPLES]:
            _line(console, f"- {_excerpt(before, console.width - 6)}", "red")
            _line(console, f"+ {_excerpt(after, console.width - 6)}", "green")


def _samples(rows: Sequence[Row], console: Console) -> None:
    for row in rows[:_SAMPLES]:
        _line(console, _excerpt(row, console.width - 4))


def _excerpt(row: Mapping[str, Any], room: int) -> str:
    return shortened(" ".join(visible(" / ".join(said(dict(row)))).split()), max(20, room))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(f"  {text}", style), soft_wrap=True)


def show_check(found: Checked, console: Console) -> None:
    """What rows are as they are, and what is required of them."""
    _line(console, f"{_rows(len(found.rows))} read, {len(found.unread)} can't be")
    show_distribution(distribution(found.rows), console)
    if found.leaked:
        _line(console, f"refused contamination: {_rows(len(found.leaked))} are in a suite", "red")
        for drop in found.leaked[:_SAMPLES]:
            place = f"{drop.placed.file} line {drop.placed.line}"
            _line(console, f"  {visible(place)} {visible(drop.detail)}")
    show_figures(found.figures, console)
