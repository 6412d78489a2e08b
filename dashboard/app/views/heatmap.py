"""The heat map: the change of each metric at each checkpoint, in units of its margin."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from dashboard.app import margin_charts
from dashboard.app.filters import about, pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    MARKS,
    cached,
    export,
    provenance,
    require_history,
    suite_and_scope,
    title,
    url,
)
from dashboard.i18n.reader import tr, words
from dashboard.queries import history, measures
from dashboard.queries.measures import Allowance, in_margins, with_interval
from harness.core.types import Direction, Row
from harness.statistics.intervals import Estimate

COLUMNS = 40
"""Checkpoints that fit side by side and can still be told apart."""

BEST, ANCHOR = "best checkpoint", "anchor"


def show() -> None:
    title("Heat map", "Which task got worse, and since when?")
    if not require_history():
        return
    scope, runs = suite_and_scope()
    runs = runs[-COLUMNS:]
    anchor = cached(history.anchor_of, runs)
    if anchor is None:
        return
    about(scope)
    best = cached(history.references_of, runs) if scope != history.OUTSIDE else {}
    held = pick(
        tr("Compared with"),
        [BEST, ANCHOR] if best else [ANCHOR],
        param="held",
        shown=lambda name: tr("the best checkpoint so far") if name == BEST else tr(ANCHOR),
    )
    references = {row["run_id"]: anchor["run_id"] for row in runs}
    if held == BEST:
        references |= best
    declared = history.declared(anchor)
    allowed = cached(history.allowances, runs)
    found = cached(measures.changes_from, references, declared)
    names = column_names(runs, by_step=scope != history.OUTSIDE)
    cells = [
        _cell(
            row,
            names[row["run_id"]],
            name,
            found[row["run_id"], name, ""],
            declared[name]["direction"],
            allowed.get(name),
        )
        for name in declared
        for row in runs
        if (row["run_id"], name, "") in found
    ]
    if not cells:
        st.info(tr("No run here shares a sample with the anchor."))
        return
    _draw(cells, references)
    provenance(anchor, role="Anchor")


def column_names(runs: list[Row], *, by_step: bool) -> dict[str, str]:
    """Run -> the name of its column, which no other has: `30`, and `30 (2)` for a second attempt;
    with a sign where it failed.
    """
    seen: Counter[str] = Counter()
    names = {}
    for row in runs:
        name = str(row["step"] if by_step and row["step"] is not None else row["place"])
        seen[name] += 1
        again = f" ({seen[name]})" if seen[name] > 1 else ""
        failed = f" {MARKS['fail']}" if row["outcome"] == "fail" else ""
        names[row["run_id"]] = f"{name}{again}{failed}"
    return names


def _cell(
    row: Row,
    column: str,
    name: str,
    change: Estimate,
    direction: Direction,
    allowed: Allowance | None,
) -> Row:
    seen = in_margins(change, direction, allowed)
    return {
        "place": row["place"],
        "column": column,
        "name": name,
        "run": row["run_id"],
        "model": row["model"],
        "change": change.value,
        "low": change.low,
        "high": change.high,
        "margins": seen.at,
        "sure": seen.is_sure,
        "tip_model": row["model"],
        "tip_step": column,
        "tip_metric": name,
        "tip_change": with_interval(change, signed=True),
        "tip_margins": f"{seen.at:+.2f}".replace("inf", "∞"),
    }


def _draw(cells: list[Row], references: dict[str, str]) -> None:
    import pandas as pd

    frame = pd.DataFrame(cells)
    frame["href"] = [
        url("samples", a=references[cell["run"]], b=cell["run"], metric=cell["name"])
        for cell in cells
    ]
    chart = margin_charts.heat(frame, words=words())
    st.altair_chart(chart, width="stretch", alt=tr("Heat map"))
    st.caption(
        tr(
            "Blue is better than what it is compared with, orange is worse; −1 has used up the "
            "margin. A dot means that the 95% interval of the paired change leaves out 0; without "
            "one the cell is faded. A click leads to the samples."
        )
    )
    table = frame[["place", "model", "run", "name", "change", "low", "high", "margins"]]
    with st.expander(tr("The numbers")):
        linked_table(table, frame["href"].tolist(), name=tr("Heat map"), at="name")
    export("heatmap", table, chart=chart)
