"""The page of drift: how much margin is left, its trend, and how the answers changed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.app import charts
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
from dashboard.queries import answers, history
from dashboard.queries.change_points import Forecast, change_points
from dashboard.queries.margin_history import forecasts, margins
from dashboard.queries.measures import with_interval
from harness.core.protocol import tasks_of
from harness.core.types import Row
from harness.statistics.intervals import Estimate


def show() -> None:
    title("Drift", "How much margin is left, and are the answers changing?")
    if not require_history():
        return
    _margin()
    _outputs()


def _margin() -> None:
    import pandas as pd

    st.subheader(tr("Margin left"), anchor=False)
    lines = [row["line"] for row in cached(history.lines)]
    if not lines:
        st.info(tr("Without a promoted checkpoint there is no margin to use up."))
        st.code("ratchet promote MODEL --line support-bot", language=None, wrap_lines=True)
        return
    line = pick(tr("Line"), lines, param="line")
    left = cached(margins, line)
    if not left:
        st.info(tr("Nothing was compared with the promoted version yet."))
        st.code(f"ratchet gate MODEL --against line:{line}", language=None, wrap_lines=True)
        return
    points = [row | {"metric": metric} for metric, rows in left.items() for row in rows]
    frame = pd.DataFrame(points)
    frame["tip_metric"] = frame["metric"]
    frame["tip_margin left"] = frame["left"].map("{:.0%}".format)
    leads = [url("verdict", verdict=name) for name in frame["verdict_id"]]
    drawn = frame.drop(columns=["at"]).assign(href=leads)
    chart = charts.margins(drawn, words=words())
    st.altair_chart(chart, width="stretch", alt=tr("Margin left"))
    seen = forecasts(left)
    table = pd.DataFrame([_outlook(name, rows, seen.get(name)) for name, rows in left.items()])
    leads = [url("verdict", verdict=rows[-1]["verdict_id"]) for rows in left.values()]
    linked_table(table, leads, name=tr("Margin left"))
    st.caption(
        tr(
            "100% is the promoted version's own level, 0% is where the gate trips. The slope is "
            "the median of all pairs (Theil–Sen) over at most 12 verdicts: advice, no verdict."
        )
    )
    export("margin", frame[["metric", "place", "verdict_id", "at", "left"]], chart=chart)


def _outlook(name: str, rows: list[Row], seen: Forecast | None) -> Row:
    if seen is None:
        outlook = tr("too few verdicts to say")
    elif seen.is_alarming:
        outlook = tr("at this slope gone in {n} checkpoints", n=seen.gone_in)
    elif seen.proven:
        outlook = tr("shrinking, but slowly")
    else:
        outlook = tr("no trend is proven")
    slope = "–" if seen is None else f"{seen.slope:+.1%} [{seen.low:+.1%}, {seen.high:+.1%}]"
    return {
        tr("metric"): name,
        tr("margin left"): f"{rows[-1]['left']:.0%}",
        tr("per checkpoint"): slope,
        tr("outlook"): outlook,
    }


def _outputs() -> None:
    import pandas as pd

    st.subheader(tr("Answers"), anchor=False)
    _, runs = suite_and_scope()
    runs = runs[-COLUMNS:]
    anchor = cached(history.anchor_of, runs)
    if anchor is None:
        return
    tasks = [name for name, task in tasks_of(anchor["protocol"]).items() if task.generates]
    if not tasks:
        st.info(tr("No task of this suite asks for an answer."))
        return
    spread = [t for t in tasks if (anchor["protocol"][t]["generate"].get("temperature") or 0) > 0]
    task = pick(tr("Task"), tasks, param="task", default=spread[0] if spread else None)
    ids = [row["run_id"] for row in runs]
    asked = list(dict.fromkeys([*ids, anchor["run_id"]]))
    lengths = cached(answers.lengths, asked, task)
    worded = cached(answers.wordings, ids, anchor["run_id"], task)
    rows = []
    for row in runs:
        if row["run_id"] in lengths and row["run_id"] in worded:
            wording = dict(worded[row["run_id"]])
            if row["run_id"] == anchor["run_id"]:
                del wording["wording"]
            rows.append(_answered(row, lengths[row["run_id"]], wording))
    if not rows:
        st.info(tr("No answers are stored of these runs."))
        return
    frame = pd.DataFrame(rows)
    _charts(frame, lengths.get(anchor["run_id"]), worded.get(anchor["run_id"], {}))
    st.caption(
        tr(
            "Length is over all answers; refusals, language and wording are read in {n} of each "
            "run, the same samples each time. Wording is the Jensen–Shannon distance of letter "
            "trigrams to the anchor's answers. Bars are 95% intervals.",
            n=answers.TEXTS,
        )
    )
    export(f"outputs-{task}", frame[[c for c in frame.columns if not c.startswith("tip_")]])
    _measured(runs, anchor, task)
    provenance(anchor, role="Anchor")


def _answered(row: Row, length: Row, wording: dict[str, Any]) -> Row:
    said = {"place": row["place"], "model": row["model"], "run": row["run_id"]}
    said["tip_model"] = row["model"]
    for name, found in {"length": length["length"], **wording}.items():
        said |= {name: found.value, f"{name}.low": found.low, f"{name}.high": found.high}
    answers = length["answers"]
    return said | {name: length[name] / answers for name in ("cut", "empty", "failed")}


def _charts(frame: Any, anchor_length: Row | None, anchor: dict[str, Any]) -> None:
    shown = {
        "length": (
            tr("length in characters"),
            "",
            anchor_length["length"] if anchor_length else None,
        ),
        "refusals": (tr("share of refusals"), ".0%", anchor.get("refusals")),
        "Chinese": (tr("share in Chinese"), ".0%", anchor.get("Chinese")),
        "wording": (tr("distance of wording"), ".2f", None),
        "cut": (tr("share cut off"), ".0%", None),
    }
    columns = st.columns(2)
    for number, (name, (axis, form, held)) in enumerate(shown.items()):
        if name not in frame:
            continue
        points = frame[["place", "tip_model", name]].rename(columns={name: "value"})
        if f"{name}.low" in frame and frame[f"{name}.low"].notna().all():
            points["low"], points["high"] = frame[f"{name}.low"], frame[f"{name}.high"]
        points = points.dropna(subset=["value"])  # the anchor's distance to itself says nothing
        points["tip_value"] = points["value"].map(lambda v, form=form: f"{v:{form or '.1f'}}")
        chart = charts.series(
            points,
            x="place",
            y="value",
            x_title=tr("run, oldest first"),
            words=words(),
            anchor=held.value if held else None,
            form=form,
        )
        with columns[number % 2]:
            st.markdown(f"**{axis}**")
            st.altair_chart(chart, width="stretch", key=f"outputs.{name}", alt=axis)
            changed = [
                int(points["place"].iloc[i]) for i in change_points(points["value"].tolist())
            ]
            if changed:
                where = ", ".join(map(str, changed))
                st.caption(tr("The level changed at {where} (advice, by PELT).", where=where))


def _measured(runs: list[Row], anchor: Row, task: str) -> None:
    """Perplexity under the anchor and distance in meaning, of the runs that were measured."""
    import pandas as pd

    st.subheader(tr("Under the anchor's model"), anchor=False)
    ids = [row["run_id"] for row in runs]
    found = cached(answers.measured, anchor["run_id"], ids, task)
    if not found:
        st.info(tr("Perplexity under the anchor and distance in meaning were not measured yet."))
        st.code(
            f"ratchet drift run:{ids[-1]} --against run:{anchor['run_id']}",
            language=None,
            wrap_lines=True,
        )
        return
    by_run = {row["run_id"]: row for row in runs}
    points = pd.DataFrame([_measure(by_run[row["run_id"]], row) for row in found])
    columns = st.columns(2)
    for column, (measure, name) in zip(columns, _MEASURES.items(), strict=True):
        part = points[points["measure"] == measure].sort_values("place")
        if part.empty:
            continue
        own = part["own"].dropna()
        chart = charts.series(
            part,
            x="place",
            y="value",
            x_title=tr("run, oldest first"),
            words=words(),
            anchor=float(own.iloc[-1]) if len(own) else None,
        )
        with column:
            st.markdown(f"**{tr(name)}**")
            st.altair_chart(chart, width="stretch", key=f"measured.{measure}", alt=tr(name))
            export(f"{measure}-{task}", part[[*_KEPT]], chart=chart)
    st.caption(
        tr(
            "The anchor's model reads each run's answers; the blue rule is its own answers, and "
            "for meaning the distance between two answers of its own. Bars are 95% intervals over "
            "samples."
        )
    )


def _measure(run: Row, row: Row) -> Row:
    estimate = Estimate(row["value"], row["low"], row["high"], row["samples"])
    return row | {
        "place": run["place"],
        "model": run["model"],
        "tip_model": run["model"],
        "tip_value": with_interval(estimate),
        "tip_samples": str(row["samples"]),
    }


_MEASURES = {
    "perplexity": "Perplexity under the anchor",
    "meaning": "Distance in meaning",
}
_KEPT = ("place", "model", "run_id", "measure", "value", "low", "high", "own", "samples")
