"""The page of a served line: its last verdict, why it was rolled back, and its traffic."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.app import charts
from dashboard.app.page import MARKS, cached, empty, export, mark, pick, title, when
from dashboard.i18n.reader import tr, words
from dashboard.queries import served_lines
from dashboard.web.escape import plain
from harness.core.escape import visible
from harness.core.types import Row
from harness.statistics.intervals import wilson

_SHOWN: dict[str, Callable[[float], str]] = {
    "requests": "{:,.0f}".format,
    "errors": "{:.1%}".format,
    "p95": "{:.2f} s".format,
}
_TIERS = ("service", "business", "quality")


def show() -> None:
    title("Watch", "Does what is served keep what the gate promised?")
    lines = cached(served_lines.lines)
    if not lines:
        empty(
            "Nothing is served yet that could be watched.",
            "ratchet promote MODEL --line support-bot",
            "ratchet watch serve   # takes in what users see",
        )
        return
    line = pick(tr("Line"), lines, param="line")
    _served(line)
    found = cached(served_lines.verdicts, line)
    if not found:
        st.info(tr("Nobody has looked yet."))
        st.code(f"ratchet watch check {line}", language=None)
    else:
        _verdict(line, {row["watch_id"]: row for row in found})
    _actions(line)
    _traffic(line)


def _served(line: str) -> None:
    row = cached(served_lines.served, line)
    if row is not None:
        said = tr("rolled back to") if row["event"] == "rolled_back" else tr("promoted")
        version = row["version"] if row["version"] is not None else "?"
        st.markdown(f"{said} **v{version}** · `{row['digest'][:12]}` · {when(row['happened_at'])}")
        if row["event"] == "rolled_back" and row["reason"]:
            st.warning(f"{tr('Taken back')}: {plain(row['reason'])}")
    split = cached(served_lines.split, line)
    if split is not None:
        st.info(
            tr(
                "A canary runs: {digest} has {share} of the traffic.",
                digest=split.candidate[:12],
                share=f"{split.share:.2%}",
            )
        )


def _verdict(line: str, found: dict[str, Row]) -> None:
    chosen = pick(tr("Verdict"), list(found), param="watch", shown=lambda name: _label(found[name]))
    row = found[chosen]
    st.markdown(
        f"{mark(row['outcome'])} · {tr(row['kind'])} · "
        + tr("{n} observations", n=f"{row['observations'] or 0:,}")
        + f" · {when(row['decided_at'])}"
    )
    problem = (row["detail"] or {}).get("problem")
    if problem:
        st.warning(plain(problem))
    _signals(line, row)
    st.caption(
        plain(
            f"{tr('verdict')} {chosen} · {tr('bytes')} {(row['model_digest'] or '')[:12]} · "
            f"{tr('held to')} {(row['reference_digest'] or '')[:12] or '–'} · "
            f"{tr('policy')} {(row['policy_digest'] or '')[:12] or '–'} · "
            f"{row['decided_at']:%Y-%m-%d %H:%M} UTC"
        )
    )


def _label(row: Row) -> str:
    moment = f"{row['decided_at']:%Y-%m-%d %H:%M}"
    digest = (row["model_digest"] or "")[:12]
    return f"{MARKS[row['outcome']]} {tr(row['outcome'])} · {tr(row['kind'])} · {digest} · {moment}"


def _signals(line: str, row: Row) -> None:
    import pandas as pd

    known = sorted((row["signals"] or {}).values(), key=lambda s: _TIERS.index(s["tier"]))
    if not known:
        return
    drawn = pd.DataFrame([_interval(s) for s in known if s["low"] is not None])
    chart = None
    if len(drawn):
        chart = charts.intervals(drawn, title=tr("value"), words=words())
        st.altair_chart(chart, width="stretch", alt=tr("Signals"))
        st.caption(
            tr(
                "Bars are 95% confidence sequences, which may be looked at any time. The red mark "
                "is the limit: the reference's bound with the margin taken off."
            )
        )
    for signal in known:
        if signal["outcome"] == "fail" and signal["reason"]:
            st.text(
                f"{MARKS['fail']} {visible(signal['signal'])}: {visible(signal['reason'], 500)}"
            )
    frame = pd.DataFrame([_cells(s) for s in known])
    st.dataframe(frame, hide_index=True, width="stretch", height="content")
    export(f"watch-{line}-{row['watch_id']}", frame, chart=chart)


def _interval(signal: Row) -> Row:
    return {
        "name": signal["signal"],
        "value": signal["value"],
        "low": signal["low"],
        "high": signal["high"],
        "limit": signal["reference"],
        "outcome": signal["outcome"],
        "tip_signal": signal["signal"],
        "tip_value": _number(signal["value"]),
        "tip_fails at": _number(signal["reference"]),
        "tip_verdict": tr(signal["outcome"]),
    }


def _cells(signal: Row) -> Row:
    low, high = _number(signal["low"]), _number(signal["high"])
    return {
        tr("signal"): signal["signal"],
        tr("tier"): tr(signal["tier"]),
        tr("verdict"): f"{MARKS[signal['outcome']]} {tr(signal['outcome'])}",
        tr("role"): tr(signal.get("role") or "required"),
        tr("value"): _number(signal["value"]),
        tr("interval"): f"{low} … {high}" if signal["low"] is not None else "–",
        tr("fails at"): _number(signal["reference"]),
        tr("passes at"): _number(signal.get("pass_limit")),
        tr("conversations"): f"{signal['n']:,}",
        tr("why"): signal["reason"],
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _actions(line: str) -> None:
    import pandas as pd

    found = cached(served_lines.actions, line)
    if not found:
        return
    st.subheader(tr("What was done"), anchor=False)
    frame = pd.DataFrame(
        [
            {
                tr("when"): f"{row['happened_at']:%Y-%m-%d %H:%M}",
                tr("what"): tr(row["action"].replace("_", " ")),
                tr("done"): tr("yes") if row["acted"] else tr("dry run"),
                tr("from"): (row["from_digest"] or "")[:12],
                tr("to"): (row["to_digest"] or "")[:12],
                tr("by"): row["actor"],
                tr("why"): row["reason"],
                tr("verdict"): row["watch_id"] or "",
            }
            for row in found
        ]
    )
    st.dataframe(frame, hide_index=True, width="stretch")
    export(f"actions-{line}", frame)


def _errors(errors: int, requests: int) -> Row:
    """The share of requests that failed, with its interval."""
    if not requests:
        return {"errors": None, "low": None, "high": None}
    share = wilson(errors, requests)
    return {"errors": share.value, "low": share.low, "high": share.high}


def _traffic(line: str) -> None:
    import pandas as pd

    days = cached(served_lines.days, line)
    st.subheader(tr("Traffic"), anchor=False)
    if not days:
        st.info(tr("Nothing was observed yet."))
        st.code(f"ratchet watch ingest observations.jsonl --line {line}", language=None)
        return
    day = pick(tr("Day, UTC"), days, param="day")
    found = cached(served_lines.day, day, line)
    frame = pd.DataFrame(
        [
            {
                "hour": hour.hour.hour if hour.hour else 0,
                "requests": hour.requests,
                **_errors(hour.errors, hour.requests),
                "p95": hour.p95_s,
                "stars": hour.stars,
                "thumbs_up": hour.thumbs_up,
                "thumbs_down": hour.thumbs_down,
                "completed": hour.completed,
                "abandoned": hour.abandoned,
                "corrected": hour.corrected,
            }
            for hour in found.hours
        ]
    )
    shown = {
        "requests": (tr("requests per hour"), ",.4~g"),
        "errors": (tr("share of errors"), ".1%"),
        "p95": (tr("95% latency, seconds"), ".3~g"),
    }
    columns = st.columns(3)
    for column, (name, (label, form)) in zip(columns, shown.items(), strict=True):
        ends = ["low", "high"] if name == "errors" else []
        points = frame[["hour", name, *ends]].dropna()
        if points.empty:
            continue
        points["tip_hour"] = points["hour"].map("{:02d}:00".format)
        points["tip_value"] = points[name].map(_SHOWN[name])
        chart = charts.series(
            points, x="hour", y=name, x_title=tr("hour, UTC"), words=words(), form=form
        )
        with column:
            st.markdown(f"**{label}**")
            st.altair_chart(chart, width="stretch", key=f"traffic.{name}", alt=label)
    st.caption(tr("Bars are 95% intervals (Wilson) of the share of errors."))
    export(f"traffic-{line}-{day}", frame)
