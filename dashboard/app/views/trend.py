"""The page of one metric over checkpoints, with intervals, the anchor's value and the margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.app import charts
from dashboard.app.filters import about, pick
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
from dashboard.i18n.reader import tr, words
from dashboard.queries import elo, history, measures
from dashboard.queries.change_points import change_points
from dashboard.queries.measures import Allowance, with_interval
from dashboard.web.escape import plain
from harness.core.format import MINUS, number
from harness.core.types import Row
from harness.statistics.intervals import Estimate

PAIRED = "of the change"
_NOTES = {
    PAIRED: "Bars are 95% intervals of the paired change against the anchor, which the gate uses.",
    "of the value": "Bars are 95% intervals over samples; most of their width is shared by all.",
}
"""What a bar is: against the anchor sample by sample, or each run by itself."""

_RATED = "Bars are 95% intervals of ratings that are fitted over all judged pairs."


def show() -> None:
    title("Trend", "Where does each checkpoint stand, and how surely?")
    if not require_history():
        return
    scope, runs = suite_and_scope()
    last = cached(history.run, runs[-1]["run_id"])
    assert last is not None
    declared = history.declared(last)
    required = cached(history.allowances, runs)
    first = next((name for name in declared if name in required), None)
    metric = pick(tr("Metric"), list(declared), param="metric", default=first)
    about(metric)
    anchor = cached(history.anchor_of, runs)
    ids = [row["run_id"] for row in runs]
    held = [anchor["run_id"]] if anchor else []
    if anchor and elo.is_elo(metric):
        sides = [(row["run_id"], row["model_digest"]) for row in (*runs, anchor)]
        place = (last["protocol"], metric, anchor["model_digest"], sides)
        found = cached(elo.points, *place)
        if metric in required:
            required = {**required, metric: elo.as_points(required[metric])}
        declared = {**declared, metric: {**declared[metric], "unit": elo.UNIT}}
    elif held and _intervals() == PAIRED:
        found = cached(measures.values, held, declared, metric)
        found = _paired(held[0], ids, declared, metric, found)
    else:
        found = cached(measures.values, list(dict.fromkeys([*ids, *held])), declared, metric)
    _draw(scope, metric, runs, found, anchor, declared[metric], required.get(metric))
    provenance(anchor, role="Anchor")
    provenance(last, role="Last run")


def _draw(
    scope: str,
    metric: str,
    runs: list[Row],
    found: dict[tuple[str, str], Estimate],
    anchor: Row | None,
    says: Mapping[str, Any],
    allowed: Allowance | None,
) -> None:
    import pandas as pd

    by_step = scope != history.OUTSIDE and all(row["step"] is not None for row in runs)
    points = []
    for row in runs:
        value = found.get((row["run_id"], metric))
        if value is not None:
            point = _point(row, value, "step" if by_step else "place")
            points.append(point | {"href": _behind(row, anchor, metric)})
    if not points:
        st.info(tr("No run here has a value of this metric."))
        return
    frame = pd.DataFrame(points)
    held = found.get((anchor["run_id"], metric)) if anchor else None
    changed = [frame["x"][at] for at in change_points(frame["value"].tolist())]
    better = tr("higher is better") if says["direction"] == "higher" else tr("lower is better")
    chart = charts.trend(
        frame,
        words=words(),
        anchor=held.value if held else None,
        bound=held.value + allowed.change if held and allowed is not None else None,
        changes=changed,
        by_step=by_step,
    )
    st.markdown(f"**{plain(metric)}** · {plain(tr(says['unit']))} · {better}")
    st.altair_chart(chart, width="stretch", key="trend", alt=metric)
    notes = [tr(_NOTES.get(st.query_params.get("interval", ""), _NOTES[PAIRED]))]
    if elo.is_elo(metric):
        notes = [tr(_RATED)]
    notes.append(tr("The blue rule is the anchor."))
    if allowed is not None:
        notes.append(tr("The dashed rule is the margin of the last verdict."))
    if changed:
        where = ", ".join(str(int(x)) for x in changed)
        notes.append(tr("The level changed at {where} (advice, by PELT).", where=where))
    if len(runs) == history.RUNS:
        notes.append(tr("The newest {n} runs are shown.", n=history.RUNS))
    st.caption(" ".join(notes))
    best = frame.loc[
        frame["value"].idxmax() if says["direction"] == "higher" else frame["value"].idxmin()
    ]
    _numbers(frame.iloc[-1], best, held, says)
    table = frame[["x", "model", "run", "value", "low", "high", "samples", "outcome", "at"]]
    with st.expander(tr("The numbers")):
        linked_table(table, frame["href"].tolist(), name=metric, at="model")
    export(f"trend-{metric.replace('/', '-')}", table, chart=chart)


def _behind(row: Row, anchor: Row | None, metric: str) -> str:
    """What a point leads to: the verdict on its run, or its samples where there is none."""
    if row["verdict_id"]:
        return url("verdict", verdict=row["verdict_id"])
    held = anchor["run_id"] if anchor else None
    return url("samples", a=held, b=row["run_id"], metric=metric)


def _intervals() -> str:
    return pick(tr("Intervals"), list(_NOTES), param="interval", shown=lambda name: tr(name))


def _paired(
    anchor: str,
    ids: list[str],
    declared: dict[str, Any],
    metric: str,
    found: dict[tuple[str, str], Estimate],
) -> dict[tuple[str, str], Estimate]:
    """The anchor's value plus each run's paired change, with the interval of the change."""
    changes = cached(measures.changes, anchor, ids, {metric: declared[metric]})
    held = found.get((anchor, metric))
    paired = dict(found)
    for (run, name, _), change in changes.items():
        if held is not None:
            low, high = (
                None if end is None else held.value + end for end in (change.low, change.high)
            )
            paired[run, name] = Estimate(held.value + change.value, low, high, change.n)
    return paired


def _point(row: Row, value: Estimate, x: str) -> Row:
    return {
        "x": row[x],
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "samples": value.n,
        "outcome": row["outcome"],
        "model": row["model"],
        "run": row["run_id"],
        "at": row["started_at"].isoformat(timespec="minutes"),
        "tip_model": row["model"],
        "tip_run": row["run_id"],
        "tip_value": with_interval(value),
        "tip_verdict": tr(row["outcome"]),
        "tip_when": f"{row['started_at']:%Y-%m-%d %H:%M} UTC",
    }


def _numbers(last: Row, best: Row, held: Estimate | None, says: Mapping[str, Any]) -> None:
    left, middle, right = st.columns(3)
    change = (
        None
        if held is None
        else number(last["value"] - held.value, signed=True).replace(MINUS, "-")
    )
    left.metric(
        tr("last"),
        number(last["value"]),
        change,
        delta_color="normal" if says["direction"] == "higher" else "inverse",
        help=tr("Against the anchor."),
    )
    middle.metric(tr("best so far"), number(best["value"]), help=tr("The best of many is lucky."))
    if held is not None:
        right.metric(tr("anchor"), number(held.value))
