"""The first page: each line's last verdict, what needs a decision, and the newest runs."""

from __future__ import annotations

import streamlit as st

from dashboard.app import verdict_text
from dashboard.app.page import (
    MARKS,
    cached,
    empty,
    export,
    link,
    mark,
    may_act,
    provenance,
    require_history,
    title,
    when,
)
from dashboard.i18n.reader import tr, words
from dashboard.queries import history
from dashboard.queries.attention import attention, forecasts, margins
from dashboard.web.escape import plain
from harness.core.types import Row


def show() -> None:
    title("Today", "Is it still getting better, and may we ship?")
    if not require_history():
        return
    lines = cached(history.lines)
    if not lines:
        empty(
            "Nothing was ever promoted, so no line has a promoted checkpoint.",
            "ratchet promote MODEL --line support-bot",
        )
    for line in lines:
        with st.container(border=True):
            _line(line)
    st.subheader(tr("What needs a human"), anchor=False)
    _needs()
    _recent()
    _sources(lines)


def _line(line: Row) -> None:
    name, verdict, margin = st.columns([1.1, 1.6, 1.3], gap="medium")
    with name:
        st.markdown(f"#### {plain(line['line'])}")
        version = line["version"] if line["version"] is not None else "?"
        said = tr("rolled back to") if line["event"] == "rolled_back" else tr("promoted")
        st.markdown(f"{said} **v{version}** · `{line['digest'][:12]}`")
        origin = (plain(line["model"] or ""), when(line["happened_at"]), plain(line["actor"]))
        st.caption(" · ".join(filter(None, origin)))
        if may_act():
            from dashboard.app.actions import roll_back

            roll_back(line["line"])
    with verdict:
        _last_verdict(line)
    with margin:
        _margins(line)


def _last_verdict(line: Row) -> None:
    if line["last_verdict"] is None:
        st.markdown(tr("no verdict yet"))
        st.code(f"ratchet gate MODEL --against line:{line['line']}", language=None, wrap_lines=True)
        return
    outcome = line["last_outcome"]
    color = {"pass": "green", "fail": "red", "inconclusive": "orange"}.get(outcome, "violet")
    st.markdown(f"#### :{color}[{MARKS[outcome]} {tr(_ANSWERS[outcome])}]")
    st.caption(f"{tr('last verdict')} · {when(line['last_at'])}")
    headline, *more = verdict_text.stored(line["last_verdict"], line["last_headline"])
    st.markdown(plain(headline))
    for sentence in more or filter(None, [line["settle"]]):
        st.caption(plain(sentence))
    link("verdict", tr("the verdict →"), verdict=line["last_verdict"])


def _margins(line: Row) -> None:
    left = cached(margins, line["line"])
    if not left:
        st.caption(tr("Margin left: nothing was compared with the promoted version yet."))
        return
    import pandas as pd

    from dashboard.app.charts import margins as chart

    st.caption(tr("margin left at the last verdicts, with 95% intervals; at 0% the gate trips"))
    points = [row | {"metric": metric} for metric, rows in left.items() for row in rows]
    frame = pd.DataFrame(points).drop(columns=["at"])
    frame["tip_metric"], frame["tip_margin left"] = (
        frame["metric"],
        [f"{row['left']:.0%} [{row['low']:.0%}, {row['high']:.0%}]" for row in points],
    )
    drawn = chart(frame, words=words())
    st.altair_chart(drawn, width="stretch", key=f"margins.{line['line']}", alt=tr("Margin left"))
    for metric, seen in forecasts(left).items():
        if seen.is_alarming:
            text = tr("at this slope gone in {n} checkpoints", n=seen.gone_in)
            st.caption(f":orange[{plain(metric)}: {text}]")
    link("drift", tr("drift →"), line=line["line"])
    export(
        f"margins-{line['line']}",
        frame[["metric", "place", "verdict_id", "left", "low", "high"]],
        chart=drawn,
    )


def _needs() -> None:
    items = cached(attention)
    if not items:
        st.success(tr("Nothing waits for you."))
    for item in items:
        text, go = st.columns([4, 1], vertical_alignment="center")
        sign = f":red[**{tr('decide')}**]" if item.level == "act" else f":orange[**{tr('look')}**]"
        values = {name: plain(value) for name, value in item.values.items()}
        text.markdown(f"{sign} · {tr(item.text, **values)}")
        with go:
            link(item.page, tr("look →"), **item.params)


def _recent() -> None:
    found = cached(history.verdicts, 8)
    if not found:
        return
    st.subheader(tr("Last verdicts"), anchor=False)
    for row in found:
        said, text, go = st.columns([1.4, 4, 1.2], vertical_alignment="center")
        said.markdown(mark(row["outcome"]))
        text.caption(f"{plain(row['model'] or row['candidate_run'])} · {when(row['decided_at'])}")
        with go:
            link("verdict", tr("look →"), verdict=row["verdict_id"])


def _sources(lines: list[Row]) -> None:
    """The table behind this page and its source: each line's promoted run, or the last."""
    import pandas as pd

    if lines:
        export("lines", pd.DataFrame([{name: row[name] for name in _EXPORTED} for row in lines]))
        for row in lines:
            promoted = cached(history.run, row["run_id"]) if row["run_id"] else None
            provenance(promoted, role="Promoted", extra=[f"{tr('line')} {row['line']}"])
        return
    newest = cached(history.runs_of, cached(history.suites)[0], None, 1)
    provenance(cached(history.run, newest[-1]["run_id"]) if newest else None, role="Last run")


_EXPORTED = (
    "line",
    "version",
    "digest",
    "run_id",
    "model",
    "event",
    "actor",
    "reason",
    "happened_at",
    "last_verdict",
    "last_outcome",
    "last_headline",
    "last_at",
)

_ANSWERS = {
    "pass": "PASS: it may ship",
    "fail": "FAIL: don't ship it",
    "inconclusive": "INCONCLUSIVE: not yet",
    "incomparable": "INCOMPARABLE: nothing was shown",
}
