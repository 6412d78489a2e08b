"""The page of a line's versions: what was promoted and taken back, when, by whom, and why."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from dashboard.app import charts
from dashboard.app.filters import about, pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    MARKS,
    cached,
    empty,
    export,
    link,
    provenance,
    require_history,
    title,
    url,
    why_link,
    why_url,
)
from dashboard.i18n.reader import tr, words
from dashboard.queries import history
from harness.core.escape import visible
from harness.core.types import Row


def show() -> None:
    title("Promotions", "Which version was served when, and on whose word?")
    if not require_history():
        return
    lines = [row["line"] for row in cached(history.lines)]
    if not lines:
        empty(
            "Nothing was ever promoted, so no line has a promoted checkpoint.",
            "ratchet promote MODEL --line support-bot",
        )
        return
    line = pick(tr("Line"), lines, param="line")
    about(line)
    versions = cached(history.versions, line)
    _draw(versions)
    newest = versions[0]
    if newest["verdict_id"]:
        text = tr("the verdict that v{n} stands on →", n=newest["version"])
        link("verdict", text, verdict=newest["verdict_id"])
        why_link(newest["verdict_id"], newest["verdict"])
    provenance(cached(history.run, newest["run_id"]) if newest["run_id"] else None, role="Promoted")


def _draw(versions: list[Row]) -> None:
    import pandas as pd

    points = pd.DataFrame(
        [
            {
                "version": row["version"] or 0,
                "at": row["happened_at"].isoformat(),
                "until": (after["happened_at"] if after else datetime.now(UTC)).isoformat(),
                "outcome": row["verdict"] or "none",
                "href": url("verdict", verdict=row["verdict_id"]) if row["verdict_id"] else None,
                "said": tr(row["event"]) if row["event"] == "rolled_back" else "",
                "tip_what": f"{tr(row['event'])} v{row['version']}",
                "tip_model": visible(row["model"] or row["digest"][:12], 200),
                "tip_by": visible(row["actor"] or "", 200),
                "tip_why": visible(row["reason"] or "", 300),
                "tip_when": f"{row['happened_at']:%Y-%m-%d %H:%M} UTC",
            }
            for row, after in zip(versions, [None, *versions], strict=False)
        ]
    )
    chart = charts.promotions(points, words=words())

    st.altair_chart(chart, width="stretch", alt=tr("Promotions"))
    st.caption(tr("A click leads to the verdict that a version stands on."))
    table = pd.DataFrame(
        [
            {
                tr("version"): row["version"],
                tr("what"): tr(row["event"]),
                tr("when"): f"{row['happened_at']:%Y-%m-%d %H:%M}",
                tr("model"): visible(row["model"] or "", 200),
                tr("bytes"): row["digest"][:12],
                tr("verdict"): f"{MARKS[row['verdict'] or 'none']} {tr(row['verdict'] or 'none')}",
                tr("by"): visible(row["actor"] or "", 200),
                tr("why"): visible(row["reason"] or "", 500),
            }
            for row in versions
        ]
    )
    reasons = [why_url(row["verdict_id"], row["verdict"]) for row in versions]
    leads = points["href"].tolist()
    also = {tr("verdict"): reasons}
    linked_table(table, leads, name=tr("Promotions"), at=tr("model"), also=also)
    export("promotions", table, chart=chart)
