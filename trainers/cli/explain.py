"""The trainers' part of `ratchet explain`: the rows that taught a checkpoint what it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.progress import bars
from harness.comparison.taught_rows import TaughtRow, TaughtRows, keep_taught
from harness.core.escape import visible
from harness.core.workspace import Workspace
from harness.report.table import shortened
from harness.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from trainers.config.recipe import Example
    from trainers.explain.taught import Row
    from trainers.loop.explained import Explained

KEPT = 200
"""Columns of a row's text that pages and reports show."""


def rows(store: Store, workspace: Workspace, verdict_id: str, console: Console) -> None:
    """Which rows taught it."""
    from rich.cells import cell_len, set_cell_size

    from trainers.explain.taught import NAMED
    from trainers.loop.explained import explain_rows

    with bars(console) as progress:
        found = explain_rows(
            store,
            workspace,
            verdict_id,
            progress=lambda done, of: progress("rows", done, of),
        )
    taught = found.taught
    named = taught.harmful[:NAMED]
    keep_taught(workspace, found.training_id, verdict_id, _kept(found, named))
    count = "these did" if len(named) < len(taught.harmful) else "they did"
    console.print(
        f"Of {len(taught.rows)} rows from step {found.begin} to {found.end} {len(taught.harmful)} "
        f"raised the loss of the {taught.samples} samples that lost most; "
        f"{count} {sum(row.share for row in named):.0%} of the harm:",
        markup=False,
        highlight=False,
    )
    places = [shortened(visible(row.place), 32) for row in named]
    widest = max(map(cell_len, places), default=0)
    room = max(8, console.width - widest - 10)
    for row, place in zip(named, places, strict=True):
        line = f"{row.share:6.1%}  {set_cell_size(place, widest)}  {_excerpt(row.example, room)}"
        console.print(line.rstrip(), markup=False, highlight=False, no_wrap=True)
    if len(taught.steps) < 2:
        console.print(
            f"Only the checkpoint of step {taught.steps[0]} is left to ask: the other one of this "
            "segment is deleted.",
            markup=False,
        )


def _kept(found: Explained, named: Sequence[Row]) -> TaughtRows:
    rows = [TaughtRow(row.place, row.share, _excerpt(row.example, KEPT)) for row in named]
    taught = found.taught
    counts = (len(taught.rows), len(taught.harmful), taught.samples)
    return TaughtRows(tuple(rows), *counts, found.begin, found.end)


def _excerpt(example: Example, room: int) -> str:
    """What is learned of a row, on one line of so many columns."""
    from rich.cells import cell_len, set_cell_size

    said = example.text or example.completion or ""
    asked = str(example.prompt[-1]["content"]) if example.prompt else ""
    whole = f"{asked} → {said}" if asked else said
    line = " ".join(visible(whole[: 4 * room]).split())
    return line if cell_len(line) <= room else f"{set_cell_size(line, room - 1)}…"
