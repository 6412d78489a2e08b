"""Sentences about lines in the reader's language, and the box in which people answer an alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboard.app.page import show_error, store
from dashboard.i18n import zh_watch
from dashboard.i18n.reader import language, tr
from dashboard.web.escape import plain
from harness.comparison.attention_log import Answer, Word, say
from harness.comparison.line_words import Sentence
from harness.core.errors import UserError

SNOOZE_H = (1, 4, 24, 72)


def sentence(of: Sentence) -> str:
    """A sentence as Markdown in the reader's language; what it names is escaped."""
    shown = {**of.values}
    if "reason" in shown:
        shown["reason"] = zh_watch.reason(str(shown["reason"]), language())
    values = {name: plain(str(value)) for name, value in shown.items()}
    return tr(of.text, **values) if values else tr(of.text)


def said(answer: Answer) -> str:
    """Who has seen it, whose it is, and until when it is put off, as plain text."""
    parts = []
    if answer.false_alarm is not None:
        who = answer.acknowledged_by or ""
        parts.append(tr("{who} called it a false alarm: {why}", who=who, why=answer.false_alarm))
    elif answer.acknowledged_by is not None:
        parts.append(tr("acknowledged by {who}", who=answer.acknowledged_by))
    if answer.owner is not None:
        parts.append(tr("{who} takes care of it", who=answer.owner))
    if answer.snoozed_until is not None:
        until = f"{answer.snoozed_until:%Y-%m-%d %H:%M}"
        parts.append(tr("put off until {when} UTC", when=until))
    parts += [f"{note.actor}: {note.text}" for note in answer.notes if note.word == "note"]
    return " · ".join(parts)


def answer_box(about: str, line: str | None, *, key: str, alarm: bool = False) -> None:
    """A box with: acknowledge, put off, owner, note; for an `alarm` also that it is a false one."""
    with st.popover(tr("Answer"), key=key):
        name = st.text_input(tr("Your name"), key=f"{key}.name", value=_reader()).strip()
        why = st.text_input(tr("Reason or note"), key=f"{key}.why").strip()
        if st.button(tr("Acknowledge"), key=f"{key}.ack", type="primary", width="stretch"):
            _say(about, "acknowledged", line, actor=name, reason=why)
        if alarm and st.button(
            tr("False alarm"), key=f"{key}.false", disabled=not why, width="stretch"
        ):
            _say(about, "false_alarm", line, actor=name, reason=why)
        if st.button(tr("I take care of it"), key=f"{key}.own", disabled=not name, width="stretch"):
            _say(about, "owner", line, actor=name, owner=name, reason=why)
        if st.button(tr("Add the note"), key=f"{key}.note", disabled=not why, width="stretch"):
            _say(about, "note", line, actor=name, reason=why)
        hours = st.selectbox(
            tr("Put off for"),
            SNOOZE_H,
            key=f"{key}.hours",
            format_func=lambda n: tr("{n} h", n=n),
        )
        if st.button(tr("Put off"), key=f"{key}.later", width="stretch"):
            until = datetime.now(UTC) + timedelta(hours=hours)
            _say(about, "snoozed", line, actor=name, reason=why, until=until)


def _say(
    about: str,
    word: Word,
    line: str | None,
    *,
    actor: str,
    owner: str | None = None,
    reason: str | None = None,
    until: datetime | None = None,
) -> None:
    try:
        say(store(), about, word, line=line, actor=actor, owner=owner, reason=reason, until=until)
    except UserError as error:
        show_error(error)
        return
    st.cache_data.clear()
    st.rerun()


def _reader() -> str:
    """Who has logged in, where anybody can."""
    asked = st.user if st.user.get("is_logged_in") else {}
    return str(asked.get("email") or asked.get("name") or "")
