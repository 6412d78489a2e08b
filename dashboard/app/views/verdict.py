"""The page of one verdict: what changed, with its interval, and how much was allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard.app import margin_charts, verdict_text
from dashboard.app.filters import about, pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    MARKS,
    cached,
    empty,
    export,
    link,
    may_act,
    provenance,
    require_history,
    title,
    url,
    verdict_label,
    when,
    why_link,
)
from dashboard.i18n.reader import tr, words
from dashboard.queries import history, sample_diff
from dashboard.web.escape import plain
from harness.core.format import number
from harness.core.protocol import MetricName
from harness.core.types import Row
from harness.gate.explain import allowed_of, change_of, interval_of, row_in_margins
from harness.gate.verdict import MetricVerdict, Verdict
from harness.report.markdown import to_markdown

if TYPE_CHECKING:
    import pandas as pd

_ORDER = {"required": 0, "watched": 1, "advisory": 2}


def show() -> None:
    title("Verdict", "What changed, how surely, and how much was allowed?")
    if not require_history():
        return
    found = {row["verdict_id"]: row for row in cached(history.verdicts)}
    asked = st.query_params.get("verdict")
    if asked and asked not in found and cached(history.verdict, asked) is not None:
        found[asked] = {"verdict_id": asked}
    if not found:
        empty("The gate has not spoken yet.", "ratchet gate MODEL --against line:NAME")
        return
    chosen = pick(
        tr("Verdict"), list(found), param="verdict", shown=lambda name: verdict_label(found[name])
    )
    shown = cached(history.verdict, chosen)
    assert shown is not None
    sign = MARKS[shown.verdict.outcome.value]
    about(f"{sign} {shown.candidate_model or shown.candidate_run}")
    _head(shown)
    _body(shown)


def _head(shown: history.Shown) -> None:
    verdict = shown.verdict
    outcome = verdict.outcome.value
    box = {"pass": st.success, "fail": st.error, "inconclusive": st.warning}.get(outcome, st.info)
    headline, *more = verdict_text.sentences(verdict)
    box(f"**{plain(headline)}**")
    for sentence in more:
        st.markdown(f"- {plain(sentence)}")
    why_link(shown.id, outcome)


def _body(shown: history.Shown) -> None:
    verdict = shown.verdict
    chart = None
    rows = forest_rows(verdict)
    leads = _leads(shown)
    if len(rows):
        rows["href"] = [leads[place] for place in rows["place"]]
        chart = margin_charts.forest(rows, words=words())
        st.altair_chart(chart, width="stretch", alt=verdict.headline)
        st.caption(
            tr(
                "0 is the anchor; the dashed line is the margin, and the shaded band what it "
                "allows. Bars are {level} intervals of the paired change; what lies beyond the "
                "scale stands at its edge, with an arrow. A click leads to the samples.",
                level=f"{verdict.level:.0%}",
            )
        )
    frame = table(verdict)
    linked_table(frame, leads, name=tr("Verdict"))
    with st.expander(tr("Every metric in words")):
        for row in _ordered(verdict):
            st.text(f"{MARKS[row.outcome.value]} {verdict_text.why(row)}")
    left, middle, right = st.columns(3)
    with left:
        name = shown.candidate_model or shown.candidate_run
        export(f"verdict-{shown.id}", frame, chart=chart, markdown=to_markdown(verdict, title=name))
    with middle:
        link("samples", tr("samples, regressed first →"), **_sides(shown))
    with right:
        link("compare", tr("compare the two runs →"), **_sides(shown))
    anchor = cached(history.run, shown.anchor_run) if shown.anchor_run else None
    provenance(cached(history.run, shown.candidate_run), role="Candidate")
    provenance(anchor, role="Anchor", extra=[f"{tr('verdict')} {shown.id}", when(shown.decided_at)])
    for name, note in verdict.notes.items():
        st.caption(plain(f"{name}: {note}"))
    if may_act():
        from dashboard.app.actions import mark_as_anchor, promote

        promote(shown)
        mark_as_anchor(shown.candidate_run, shown.id)


def _sides(shown: history.Shown) -> dict[str, str | None]:
    failing = shown.verdict.failing() or shown.verdict.rows
    metric = failing[0].metric if failing else None
    return {"a": shown.anchor_run, "b": shown.candidate_run, "metric": metric}


def _leads(shown: history.Shown) -> list[str]:
    """For each row of the table its samples, of its slice where it speaks of one."""
    run = cached(history.run, shown.candidate_run)
    sides, found = _sides(shown), []
    for row in _ordered(shown.verdict):
        part = _part(run, row) if run is not None and row.slice is not None else None
        found.append(url("samples", **{**sides, "metric": row.metric, "slice": part}))
    return found


def _part(run: Row, row: MetricVerdict) -> str | None:
    """A verdict's slice as the page of samples has it; None for one by a field of the suite's own,
    of which the store keeps no column.
    """
    digest = sample_diff.task_digest(run, MetricName.parse(row.metric).task)
    parts = cached(sample_diff.slices, digest)
    return next((f"{p['part']}:{p['value']}" for p in parts if p["value"] == row.slice), None)


def _ordered(verdict: Verdict) -> list[MetricVerdict]:
    return sorted(verdict.rows, key=lambda row: _ORDER[row.role])


def forest_rows(verdict: Verdict) -> pd.DataFrame:
    """Each paired row in units of its margin: 0 the anchor, −1 the margin, + better, infinite where
    nothing is allowed.
    """
    import pandas as pd

    rows = []
    for place, row in enumerate(_ordered(verdict)):
        found = row_in_margins(row)
        if found is None:
            continue
        at, low, high = found
        rows.append(
            {
                "name": row.name if row.required else f"({row.name})",
                "metric": row.metric,
                "place": place,
                "text": change_of(row),
                "at": at,
                "low": low,
                "high": high,
                "outcome": row.outcome.value,
                "tip_metric": row.name,
                "tip_change": f"{change_of(row)} {interval_of(row)}",
                "tip_margin": allowed_of(row),
                "tip_verdict": tr(row.outcome.value),
            }
        )
    return pd.DataFrame(rows)


def table(verdict: Verdict) -> pd.DataFrame:
    """The verdict as people read it, required metrics first."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                tr("metric"): row.name,
                tr("verdict"): f"{MARKS[row.outcome.value]} {tr(row.outcome.value)}",
                tr("role"): tr(row.role),
                tr("anchor"): number(row.measured.anchor),
                tr("candidate"): number(row.measured.candidate),
                tr("change"): " ".join(p for p in (change_of(row), interval_of(row)) if p),
                tr("margin"): allowed_of(row),
                tr("evidence"): verdict_text.evidence(row),
            }
            for row in _ordered(verdict)
        ]
    )
