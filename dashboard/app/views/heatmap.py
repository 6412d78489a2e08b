"""The heat map: the change of each metric at each checkpoint, in units of its margin."""

from __future__ import annotations

import streamlit as st

from dashboard.app import charts
from dashboard.app.page import cached, export, provenance, require_history, suite_and_scope, title
from dashboard.i18n.reader import tr, words
from dashboard.queries import history, measures
from dashboard.queries.measures import in_margins, with_interval
from harness.core.types import Direction, Row
from harness.statistics.intervals import Estimate

COLUMNS = 40
"""Checkpoints that fit side by side and can still be told apart."""


def show() -> None:
    title("Heat map", "Which task got worse, and since when?")
    if not require_history():
        return
    _, runs = suite_and_scope()
    runs = runs[-COLUMNS:]
    anchor = cached(history.anchor_of, runs)
    if anchor is None:
        return
    declared = history.declared(anchor)
    allowed = cached(history.allowances, runs)
    ids = [row["run_id"] for row in runs]
    found = cached(measures.changes, anchor["run_id"], ids, declared)
    cells = [
        _cell(
            row,
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
    _draw(cells)
    provenance(anchor, role="Anchor")


def _cell(
    row: Row, name: str, change: Estimate, direction: Direction, allowed: float | None
) -> Row:
    seen = in_margins(change, direction, allowed)
    return {
        "place": row["place"],
        "name": name,
        "run": row["run_id"],
        "model": row["model"],
        "change": change.value,
        "low": change.low,
        "high": change.high,
        "margins": seen.at,
        "sure": seen.is_sure,
        "tip_model": row["model"],
        "tip_run": row["run_id"],
        "tip_metric": name,
        "tip_change": with_interval(change, signed=True),
        "tip_margins": f"{seen.at:+.2f}",
    }


def _draw(cells: list[Row]) -> None:
    import pandas as pd

    frame = pd.DataFrame(cells)
    chart = charts.heat(frame, words=words())
    st.altair_chart(chart, width="stretch", alt=tr("Heat map"))
    st.caption(
        tr(
            "Blue is better than the anchor, orange is worse; −1 has used up the margin. A dot "
            "means that the 95% interval of the paired change leaves out 0."
        )
    )
    table = frame[["place", "model", "run", "name", "change", "low", "high", "margins"]]
    with st.expander(tr("The numbers")):
        st.dataframe(table, hide_index=True, width="stretch")
    export("heatmap", table, chart=chart)
