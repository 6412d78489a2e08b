"""The page of a served line: its alarm and what to do, each signal by the hour, and every look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboard.app import incident_card
from dashboard.app.answers import sentence
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    MARKS,
    cached,
    empty,
    export,
    mark,
    pick,
    recent,
    title,
    url,
    when,
)
from dashboard.app.signal_charts import small_multiples
from dashboard.i18n import zh_watch
from dashboard.i18n.reader import language, tr
from dashboard.queries import served_lines, signal_hours
from dashboard.web.escape import plain
from harness.comparison.line_state import Alarm, LineState
from harness.comparison.line_words import canary, serving, settling
from harness.core.escape import visible
from harness.core.types import Row
from harness.watch.monitor.incidents import deed_of
from harness.watch.monitor.verdict import WatchVerdict

EVERY_S = 30.0
_TIERS = ("service", "business", "quality")
_DONE = {"done": "done", "proposed": "dry run", "impossible": "nothing could be done"}


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
    st.fragment(_live, run_every=EVERY_S)(line)
    _looks(line)
    _actions(line)


def _live(line: str) -> None:
    """The state and its charts, anew every half minute."""
    state = recent(served_lines.state, line)
    if state is None:
        return
    _served(state)
    shown = _chosen(state)
    for alarm in shown:
        incident_card.show(state, alarm)
    if state.serving.look is None and not shown:
        st.info(tr("Nobody has looked yet."))
        st.code(f"ratchet watch check {line}", language=None, wrap_lines=True)
    _signals(state, shown)
    for alarm in shown[:1]:
        _tripped(state, alarm)


def _served(state: LineState) -> None:
    now = state.promoted
    if now is not None:
        said = tr("rolled back to") if now.event == "rolled_back" else tr("promoted")
        version = now.version if now.version is not None else "?"
        same = cached(served_lines.same_bytes, state.line, now.digest)
        twin = f" · {tr('the bytes of v{n}', n=same)}" if same not in (None, now.version) else ""
        st.markdown(f"{said} **v{version}** · `{now.digest[:12]}` · {when(now.since)}{twin}")
        if now.event == "rolled_back" and now.reason:
            st.warning(f"{tr('Taken back')}: {plain(zh_watch.reason(now.reason, language()))}")
    color = {"pass": "green", "fail": "red"}.get(state.serving.outcome or "", "")
    said = sentence(serving(state))
    st.markdown(f":{color}[**{said}**]" if color else said)
    waiting = settling(state)
    if waiting is not None:
        st.caption(sentence(waiting))
    runs = canary(state)
    if runs is not None:
        st.info(sentence(runs))


def _chosen(state: LineState) -> list[Alarm]:
    """Alarms that last or wait for an answer, the one that the address asks for first."""
    asked = st.query_params.get("watch")
    shown = [a for a in state.alarms if a.present or a in state.unanswered()]
    if asked is None:
        return shown
    wanted = cached(served_lines.incident_of, asked)
    named = [alarm for alarm in state.alarms if alarm.incident.id == wanted]
    if not named and not cached(served_lines.look_exists, state.line, asked):
        st.error(tr("There is no look {id} on this line.", id=plain(asked)))
    return named + [alarm for alarm in shown if alarm not in named]


# Signals by the hour.


def _signals(state: LineState, alarms: list[Alarm]) -> None:
    look = alarms[0].incident.first if alarms else state.serving.look
    st.subheader(tr("Signals by the hour"), anchor=False)
    names = [s.signal for s in look.signals] if look is not None else []
    names = names or ["errors", "completion", "satisfaction", "retries"]
    until = datetime.now(UTC)
    if alarms and until - alarms[0].incident.began_at > timedelta(hours=signal_hours.HOURS - 6):
        until = alarms[0].incident.began_at + timedelta(hours=6)
    hour = until.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    inside = cached(signal_hours.inside_limits, look.watch_id) if look is not None else {}
    found = cached(signal_hours.hours, state.line, tuple(names), inside, hour)
    if not found:
        st.info(tr("Nothing was observed in these {n} hours.", n=signal_hours.HOURS))
        st.code(
            f"ratchet watch ingest observations.jsonl --line {state.line}",
            language=None,
            wrap_lines=True,
        )
        return
    events = cached(served_lines.events, state.line, hour - timedelta(hours=signal_hours.HOURS))
    marks = [(row["happened_at"], f"v{row['version']}") for row in events]
    small_multiples(state.line, found, look, marks, [a.incident.began_at for a in alarms])


def _tripped(state: LineState, alarm: Alarm) -> None:
    """Answers that made a failed signal bad, as they were before the alarm."""
    incident = alarm.incident
    st.subheader(tr("Answers that tripped it"), anchor=False)
    for signal in incident.failed:
        at = signal.at_alarm.at if signal.at_alarm else incident.began_at
        until = at + timedelta(seconds=1)
        rows = cached(signal_hours.tripped, state.line, incident.model_digest, signal.signal, until)
        with st.expander(
            f"{plain(signal.signal)} · {len(rows)}", expanded=len(incident.failed) == 1
        ):
            if not rows:
                st.caption(tr("No single answer can be named for this signal."))
            for row in rows:
                _answer(row)
    st.caption(tr("What users rated low or corrected becomes new data, once somebody reviewed it:"))
    st.code(f"ratchet watch harvest {state.line}", language=None, wrap_lines=True)


def _answer(row: Row) -> None:
    facts = [row["observation_id"], f"{row['observed_at']:%Y-%m-%d %H:%M}"]
    if row["latency_s"] is not None:
        facts.append(f"{row['latency_s']:.2f} s")
    facts += [str(row[name]) for name in ("outcome", "error", "comment") if row[name]]
    if row["stars"] is not None:
        facts.append(f"{row['stars']:g} ★")
    st.caption(plain(" · ".join(facts)))
    st.text(f"{visible(row['prompt'] or '', 500)}\n→ {visible(row['response'] or '–', 1_000)}")


# Every look.


def _looks(line: str) -> None:
    found = {row["watch_id"]: row for row in cached(served_lines.verdicts, line)}
    if not found:
        return
    with st.expander(tr("Every look")):
        asked = st.query_params.get("watch")
        first = asked if asked in found else next(iter(found))
        chosen = st.selectbox(
            tr("Verdict"),
            list(found),
            index=list(found).index(first),
            format_func=lambda name: _label(found[name]),
            key="watch.look",
        )
        _verdict(line, found[chosen])


def _verdict(line: str, row: Row) -> None:
    st.markdown(
        f"{mark(row['outcome'])} · {tr(row['kind'])} · "
        + tr("{n} observations", n=f"{row['observations'] or 0:,}")
        + f" · {when(row['decided_at'])}"
    )
    problem = (row["detail"] or {}).get("problem")
    if problem:
        st.warning(plain(zh_watch.reason(problem, language())))
    _table(line, row)
    model = (row["model_digest"] or "")[:12]
    st.caption(
        plain(
            f"{tr('verdict')} {row['watch_id']} · {tr('bytes')} {model} · "
            f"{tr('held to')} {(row['reference_digest'] or '')[:12] or '–'} · "
            f"{tr('policy')} {(row['policy_digest'] or '')[:12] or '–'} · "
            f"{row['decided_at']:%Y-%m-%d %H:%M} UTC"
        )
    )


def _label(row: Row) -> str:
    moment = f"{row['decided_at']:%Y-%m-%d %H:%M}"
    digest = (row["model_digest"] or "")[:12]
    return f"{MARKS[row['outcome']]} {tr(row['outcome'])} · {tr(row['kind'])} · {digest} · {moment}"


def _table(line: str, row: Row) -> None:
    import pandas as pd

    known = WatchVerdict.from_row({**row, "state": {}}).signals
    if not known:
        return
    known = tuple(sorted(known, key=lambda s: _TIERS.index(s.tier)))
    frame = pd.DataFrame([incident_card.cells(signal) for signal in known])
    st.dataframe(frame, hide_index=True, width="stretch", height="content")
    for signal in known:
        if signal.outcome == "fail" and signal.reason:
            why = zh_watch.reason(signal.reason, language())
            st.text(f"{MARKS['fail']} {visible(signal.signal)}: {visible(why, 500)}")
    export(f"watch-{line}-{row['watch_id']}", frame)


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
                tr("done"): tr(_DONE[deed_of(row["action"], acted=row["acted"])]),
                tr("from"): (row["from_digest"] or "")[:12],
                tr("to"): (row["to_digest"] or "")[:12],
                tr("by"): row["actor"],
                tr("why"): zh_watch.reason(row["reason"] or "", language()),
                tr("verdict"): row["watch_id"] or "",
            }
            for row in found
        ]
    )
    leads = [
        url("watch", line=line, watch=row["watch_id"]) if row["watch_id"] else None for row in found
    ]
    linked_table(frame, leads, name=tr("What was done"))
    export(f"actions-{line}", frame)
