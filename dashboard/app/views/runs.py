"""The page of runs: a table to search, sort, tag and note, and up to ten runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.app.filters import is_gone, just_chose, keep, pick, search
from dashboard.app.page import (
    MARKS,
    cached,
    export,
    link,
    may_act,
    page_number,
    provenance,
    require_history,
    title,
    why_link,
)
from dashboard.i18n.reader import tr
from dashboard.queries import history, measures, run_table
from dashboard.queries.measures import with_interval
from harness.core.escape import visible
from harness.core.format import number
from harness.core.types import Row

METRICS = 4
"""Metrics that have a column of their own, required ones first."""
SIDE_BY_SIDE = 10


def show() -> None:
    title("Runs", "What was tried, and what came of it?")
    if not require_history():
        return
    first, second, third = st.columns([1, 1, 1.4])
    with first:
        suite = pick(tr("Suite"), cached(history.suites), param="suite")
    known = cached(run_table.tags, suite)
    with second:
        tag = pick(
            tr("Tag"),
            ["all", *known],
            param="tag",
            shown=lambda name: tr("all") if name == "all" else name,
        )
    with third:
        text = search()
    asked = st.query_params.get("page", "1")
    place = max(int(asked) - 1, 0) if asked.isdigit() else 0
    wanted = (suite, text, None if tag == "all" else tag)
    found = cached(run_table.runs, *wanted, place * run_table.PAGE)
    if not found:
        st.info(tr("No run is left by these filters."))
        return
    declared = _declared(found[0]["run_id"], found)
    values = cached(measures.values, [row["run_id"] for row in found], declared)
    chosen = _table(found, declared, values)
    if found[0]["total"] > run_table.PAGE:
        page_number(found[0]["total"], run_table.PAGE)
    if len(chosen) > SIDE_BY_SIDE:
        st.warning(tr("Up to {n} runs stand side by side.", n=SIDE_BY_SIDE))
    elif len(chosen) > 1:
        _side_by_side(chosen)
    elif chosen:
        _one(chosen[0])
    else:
        st.caption(tr("Tick runs to see them side by side, or one to note something beside it."))
    provenance(cached(history.run, found[0]["run_id"]), role="Last run")


def _declared(run_id: str, found: Sequence[Row]) -> dict[str, Mapping[str, Any]]:
    """The metrics that the table shows: those that the last verdict required, then others."""
    run = cached(history.run, run_id)
    assert run is not None
    every = history.declared(run)
    judged = next((row["verdict_id"] for row in found if row["verdict_id"]), None)
    shown = cached(history.verdict, judged) if judged else None
    required = [row.metric for row in shown.verdict.rows if row.required] if shown else []
    names = [name for name in dict.fromkeys([*required, *every]) if name in every]
    return {name: every[name] for name in names[:METRICS]}


def _table(
    found: Sequence[Row],
    declared: Mapping[str, Any],
    values: Mapping[tuple[str, str], Any],
) -> list[Row]:
    """The table; the rows that are ticked, at first those that the address names."""
    import pandas as pd

    def value(run_id: str, name: str) -> float | None:
        estimate = values.get((run_id, name))
        return None if estimate is None else estimate.value

    frame = pd.DataFrame(
        [
            {
                tr("verdict"): f"{MARKS[row['outcome']]} {tr(row['outcome'])}",
                tr("model"): visible(row["model"] or "", 200),
                tr("tags"): list(row["tags"]),
                tr("note"): visible(row["note"], 200),
                **{name: value(row["run_id"], name) for name in declared},
                tr("when"): f"{row['started_at']:%Y-%m-%d %H:%M}",
                tr("step"): "" if row["step"] is None else f"{row['step']:>6}",
                tr("training"): row["training_id"] or "",
                tr("run"): row["run_id"],
            }
            for row in found
        ]
    )
    ids = [row["run_id"] for row in found]
    state = st.dataframe(
        frame,
        hide_index=True,
        width="stretch",
        height=min(36 * len(found) + 40, 560),
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": _named(ids), "columns": [], "cells": []}},
        key="runs.table",
        column_config={name: st.column_config.NumberColumn(format="%.4g") for name in declared},
        alt=tr("Runs"),
    )
    export("runs", frame)
    rows = [place for place in state["selection"]["rows"] if place < len(found)]
    keep("runs", ",".join(ids[place] for place in rows))
    return [found[place] for place in rows]


def _named(ids: Sequence[str]) -> list[int]:
    """Places of the runs that the address names."""
    asked = [name for name in st.query_params.get("runs", "").split(",") if name]
    gone = [name for name in asked if name not in ids]
    if gone and not just_chose() and cached(history.run, gone[0]) is None:
        is_gone(tr("Run"), gone[0])
    return [ids.index(name) for name in asked if name in ids]


def _side_by_side(chosen: Sequence[Row]) -> None:
    """Metrics of each run, then the settings in which they differ."""
    import pandas as pd

    ids = [row["run_id"] for row in chosen]
    names = {row["run_id"]: f"{row['model']} · {row['run_id'][:8]}" for row in chosen}
    run = cached(history.run, ids[0])
    assert run is not None
    declared = history.declared(run)
    values = cached(measures.values, ids, declared)
    st.subheader(tr("Side by side"), anchor=False)
    table = pd.DataFrame(
        [
            {
                tr("metric"): f"{'↑' if says['direction'] == 'higher' else '↓'} {name}",
                **{
                    names[run_id]: with_interval(values[run_id, name])
                    if (run_id, name) in values
                    else number(None)
                    for run_id in ids
                },
            }
            for name, says in declared.items()
        ]
    )
    st.dataframe(table, hide_index=True, width="stretch")
    differs = run_table.differences(cached(run_table.settings, ids))
    st.markdown(f"**{tr('Settings that differ')}**")
    settings = pd.DataFrame(
        [
            {tr("setting"): row["setting"]}
            | {names[run_id]: visible(str(row[run_id]), 300) for run_id in ids}
            for row in differs
        ]
    )
    st.dataframe(settings, hide_index=True, width="stretch")
    export("side-by-side", pd.concat([table, settings]))
    if len(ids) == 2:
        # The older one is A.
        b, a = ids
        link("compare", tr("compare the two runs →"), a=a, b=b)
        link("samples", tr("samples, regressed first →"), a=a, b=b)


def _one(row: Row) -> None:
    left, right = st.columns(2)
    if row["verdict_id"]:
        with left:
            link("verdict", tr("the verdict on this run →"), verdict=row["verdict_id"])
            why_link(row["verdict_id"], row["outcome"])
    if row["anchor_run"]:
        with right:
            link("samples", tr("its samples →"), a=row["anchor_run"], b=row["run_id"])
    if row["note"]:
        st.text(visible(row["note"]))
    if may_act():
        from dashboard.app.actions import note

        note(row["run_id"], list(row["tags"]), row["note"])
    else:
        st.caption(tr("A note or a tag is written on the command line, or here with --actions:"))
        st.code(f'ratchet note {row["run_id"]} "…" --tag keep', language=None, wrap_lines=True)
