"""The card of an alarm: what failed with the numbers at the alarm, what was done, what to do."""

from __future__ import annotations

import streamlit as st

from dashboard.app.answers import answer_box, said, sentence
from dashboard.app.linked_table import linked_table
from dashboard.app.page import MARKS, when
from dashboard.app.runbook import means
from dashboard.i18n import zh_watch
from dashboard.i18n.reader import language, tr
from dashboard.web.escape import plain
from harness.comparison.line_state import Alarm, LineState
from harness.comparison.line_words import alarm_sentence
from harness.core.types import Row
from harness.watch.monitor.incidents import Deed
from harness.watch.monitor.verdict import SignalVerdict

_SAME = ("tier", "verdict", "role", "passes at")
"""Columns of a look that say nothing where every row has failed."""

_SIGNS = {"done": "✓", "proposed": "◇", "impossible": "✗"}
_WORDS = {
    "done": "done",
    "proposed": "dry run: nothing was changed",
    "impossible": "nothing could be done",
}


def show(state: LineState, alarm: Alarm) -> None:
    """The card, with buttons to answer it."""
    import pandas as pd

    incident = alarm.incident
    one = incident.looks == 1
    with st.container(border=True):
        box = st.error if alarm.present else st.warning
        box(f"**{sentence(alarm_sentence(state, alarm))}**")
        st.caption(
            plain(
                " · ".join(
                    [
                        f"{tr('alarm')} {incident.id}",
                        tr(incident.kind),
                        f"{incident.began_at:%Y-%m-%d %H:%M} UTC ({when(incident.began_at)})",
                        tr("1 look") if one else tr("{n} looks", n=incident.looks),
                    ]
                )
            )
        )
        rows = [cells(signal) for signal in incident.failed]
        if rows:
            st.markdown(f"**{tr('What failed, with the numbers at the alarm')}**")
            told = pd.DataFrame(rows).drop(columns=[tr(name) for name in _SAME])
            linked_table(told, [None] * len(rows), name=tr("alarm"))
        st.markdown(f"**{tr('What was done')}**")
        if not incident.deeds:
            st.markdown(tr("Nothing."))
        for deed in incident.deeds:
            st.markdown(_deed(deed))
        answered = said(alarm.answer)
        if answered:
            st.caption(plain(answered))
        left, middle, _ = st.columns([1, 1, 3])
        with left:
            answer_box(alarm.about, state.line, key=f"alarm.{incident.id}", alarm=True)
        with middle, st.popover(tr("Copy the report")):
            st.code(report(state, alarm), language=None, wrap_lines=True)
        st.markdown(f"**{tr('What to do')}**")
        st.code("\n".join(commands(state, alarm)), language=None, wrap_lines=True)
        for signal in incident.failed:
            known = means(signal.signal)
            if known is not None:
                st.markdown(f"- **{plain(signal.signal)}** · {plain(tr(known))}")
        st.caption(f"{tr('Runbook')}: docs/oncall.md")


def cells(signal: SignalVerdict) -> Row:
    """One signal as a row of a table; a failed one with its numbers at the alarm."""
    shown = signal.shown
    low, high = _number(shown.low), _number(shown.high)
    arrow = "↑" if signal.direction == "higher" else "↓"
    return {
        tr("signal"): f"{signal.signal} {arrow}",
        tr("tier"): tr(signal.tier),
        tr("verdict"): f"{MARKS[signal.outcome]} {tr(signal.outcome)}",
        tr("role"): tr(signal.role or "required"),
        tr("value"): _number(shown.value),
        tr("interval"): f"{low} … {high}" if shown.low is not None else "–",
        tr("fails at"): _number(signal.reference),
        tr("passes at"): _number(signal.pass_limit),
        tr("conversations"): f"{shown.n:,}",
        tr("since then"): _since(signal),
        tr("why"): zh_watch.reason(signal.reason, language()),
    }


def report(state: LineState, alarm: Alarm) -> str:
    """The alarm as plain text, to be pasted into a chat or a ticket."""
    incident = alarm.incident
    began = f"{incident.began_at:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{state.line}: {incident.names}",
        f"{tr('alarm')} {incident.id} ({tr(incident.kind)}), {began}",
        f"{tr('model')} {incident.model_digest or '?'}",
    ]
    for signal in incident.failed:
        shown = signal.shown
        said_of = tr(
            "{signal}: {value} on {n} conversations, fails at {limit}",
            signal=signal.signal,
            value=_number(shown.value),
            n=f"{shown.n:,}",
            limit=_number(signal.reference),
        )
        lines.append(f"- {said_of}")
    for deed in incident.deeds:
        why = zh_watch.reason(deed.reason, language())
        lines.append(f"- {tr(_WORDS[deed.did])} ({deed.actor}): {why}")
    answered = said(alarm.answer)
    return "\n".join([*lines, *([answered] if answered else [])])


def commands(state: LineState, alarm: Alarm) -> list[str]:
    """What somebody who was woken may type, the most likely first."""
    line = state.line
    if alarm.incident.kind == "canary" and alarm.present:
        said = tr("all traffic to what is promoted")
        return [f"ratchet watch ramp {line} --abort --act   # {said}"]
    seen = tr("seen; or --false-alarm REASON")
    found = [f"ratchet watch answer {line} {alarm.incident.id}   # {seen}"]
    if not alarm.present:
        return [f"ratchet watch check {line}   # {tr('is what serves now well?')}", *found]
    if state.promoted is not None and alarm.incident.held is None:
        back = tr("back to the version before")
        found.insert(0, f"ratchet watch check {line} --act   # {back}")
    else:
        found.insert(0, f"ratchet history {line}   # {tr('which versions there are')}")
        found.insert(1, f"ratchet rollback {line} --to DIGEST --reason WHY")
    return found


def _deed(deed: Deed) -> str:
    what = tr(deed.action.replace("_", " "))
    to = f" → `{deed.to_digest[:12]}`" if deed.did != "impossible" and deed.to_digest else ""
    why = plain(zh_watch.reason(deed.reason, language()))
    by = f"{plain(deed.actor)} · {deed.at:%Y-%m-%d %H:%M} UTC"
    return f"{_SIGNS[deed.did]} {tr(_WORDS[deed.did])}: {what}{to} · {by}  \n{why}"


def _since(signal: SignalVerdict) -> str:
    if signal.at_alarm is None or not signal.n:
        return ""
    return f"{_number(signal.value)} ({signal.n:,})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"
