"""The page of forgetting: per slice, the best result so far and the present one."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.app import margin_charts
from dashboard.app.filters import pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    cached,
    export,
    provenance,
    require_history,
    suite_and_scope,
    title,
    url,
)
from dashboard.app.views.heatmap import COLUMNS
from dashboard.i18n.reader import tr, words
from dashboard.queries import history, measures
from dashboard.queries.measures import Allowance, in_margins, with_interval
from dashboard.queries.sample_diff import task_digest
from harness.core.protocol import MetricName
from harness.core.types import Row
from harness.statistics.intervals import Estimate

BY = ("language", "cluster")


def show() -> None:
    title("Forgetting", "What could it do once, and can't any more?")
    if not require_history():
        return
    _, runs = suite_and_scope()
    runs = runs[-COLUMNS:]
    anchor = cached(history.anchor_of, runs)
    if anchor is None or len(runs) < 2:
        st.info(tr("One run has nothing behind it that it could forget."))
        st.code("ratchet score ANOTHER-MODEL --suite SUITE", language=None, wrap_lines=True)
        return
    by = pick(tr("Slices by"), BY, param="by", shown=lambda name: tr(name))
    declared = history.declared(anchor)
    tasks = dict.fromkeys(MetricName.parse(name).task for name in declared)
    digests = {task: task_digest(anchor, task) for task in tasks}
    ids = [row["run_id"] for row in runs]
    found = cached(measures.changes, anchor["run_id"], ids, declared, by, digests)
    allowed = cached(history.allowances, runs)
    rows = _rows(runs, declared, found, allowed, by)
    if not rows:
        st.info(tr("No run here shares a sample with the anchor."))
        return
    _draw(rows, anchor["run_id"], ids[-1])
    provenance(anchor, role="Anchor")
    provenance(cached(history.run, ids[-1]), role="Last run")


def _rows(
    runs: list[Row],
    declared: dict[str, Any],
    found: dict[tuple[str, str, str], Estimate],
    allowed: dict[str, Allowance],
    by: str,
) -> list[Row]:
    """Per metric and slice: now with its interval, and the best so far, in units of the margin."""
    last = runs[-1]["run_id"]
    rows = []
    for name, part in sorted({(name, part) for _, name, part in found}):
        now = found.get((last, name, part))
        if now is None:
            continue
        up, room = declared[name]["direction"], allowed.get(name)
        course = [
            (in_margins(found[row["run_id"], name, part], up, room).at, row["model"])
            for row in runs
            if (row["run_id"], name, part) in found
        ]
        best, model = max(course)
        stands = in_margins(now, up, room)
        rows.append(
            {
                "name": f"{name} · {part}" if part else name,
                "metric": name,
                "slice": f"{by}:{part}" if part else None,
                "text": with_interval(now, signed=True),
                "best": best,
                "best_model": model,
                "at": stands.at,
                "low": stands.low,
                "high": stands.high,
                "lost": 0.0 if best == stands.at else best - stands.at,
                "samples": now.n,
                "tip_metric": f"{name} {part}",
                "tip_change": with_interval(now, signed=True),
                "tip_best so far": f"{best:+.2f} ({model})",
                "tip_evidence": str(now.n),
            }
        )
    return sorted(rows, key=lambda row: -row["lost"])


def _draw(rows: list[Row], anchor: str, last: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(rows)
    leads = [
        url("samples", a=anchor, b=last, metric=row["metric"], slice=row["slice"]) for row in rows
    ]
    shown = frame.assign(href=leads).head(40)
    chart = margin_charts.dumbbell(shown, words=words())
    st.altair_chart(chart, width="stretch", alt=tr("Forgetting"))
    st.caption(
        tr(
            "Blue is the last run against the anchor with its 95% interval, amber the best run "
            "of this history. The best of many is lucky, so a small gap says little; the anchor "
            "at 0 is the fair comparison. What was lost most is on top."
        )
    )
    table = frame[["name", "best", "best_model", "at", "low", "high", "lost", "samples"]]
    table = table.rename(columns={"at": "now"})
    with st.expander(tr("The numbers")):
        linked_table(table, leads, name=tr("Forgetting"))
    export("forgetting", table, chart=chart)
