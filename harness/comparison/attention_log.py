"""What people said about what needs a human: seen, a false alarm, later, whose, and notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from harness.core.errors import UserError
from harness.core.types import Row
from harness.registry.events import who
from harness.store.store import Store

Word = Literal["acknowledged", "false_alarm", "snoozed", "owner", "note", "reopened"]
_NEEDS_REASON = ("false_alarm", "note")


@dataclass(frozen=True, slots=True)
class Note:
    """A remark, or the reason that came with another word."""

    word: Word
    text: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that people said about one thing, summed up.

    acknowledged_by  who has seen it; None for nobody
    false_alarm      why it is none, in their words; None where nobody said so
    snoozed_until    when it comes back; None where it isn't put off
    owner            who takes care of it
    notes            all remarks and reasons, oldest first
    """

    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    false_alarm: str | None = None
    snoozed_until: datetime | None = None
    owner: str | None = None
    notes: tuple[Note, ...] = ()

    def is_quiet(self, now: datetime) -> bool:
        """Whether nobody need be told again at this moment."""
        snoozed = self.snoozed_until is not None and self.snoozed_until > now
        return self.acknowledged_by is not None or self.false_alarm is not None or snoozed


NOTHING = Answer()


def say(
    store: Store,
    about: str,
    word: Word,
    *,
    line: str | None = None,
    actor: str | None = None,
    owner: str | None = None,
    reason: str | None = None,
    until: datetime | None = None,
) -> None:
    """Keep what somebody says about one thing (`incident:WATCH_ID`, `verdict:ID`, ...).

    Raises UserError for a false alarm or a note without a reason, for an owner without a name, and
    for a time that has passed.
    """
    reason = (reason or "").strip() or None
    owner = (owner or "").strip() or None
    if word in _NEEDS_REASON and reason is None:
        raise UserError(f"{word.replace('_', ' ')}: say why, in a few words", field="reason")
    if word == "owner" and owner is None:
        raise UserError("an owner needs a name", field="owner")
    if word == "snoozed" and (until is None or until <= datetime.now(UTC)):
        raise UserError("snoozed until when? That moment must lie ahead", field="until")
    row = {"about": about, "event": word, "line": line, "actor": (actor or "").strip() or who()}
    store.append("attention_events", [{**row, "owner": owner, "reason": reason, "until": until}])


def answers(store: Store) -> dict[str, Answer]:
    """What people said, by what it is about."""
    found: dict[str, Answer] = {}
    for row in store.query("SELECT * FROM attention_events ORDER BY seq"):
        found[row["about"]] = _after(found.get(row["about"], NOTHING), row)
    return found


def false_alarms(store: Store, line: str) -> int:
    """How many incidents of a line people called false alarms."""
    rows = store.query(
        "SELECT arg_max(event, seq) AS event FROM attention_events WHERE line = ? "
        "AND event IN ('false_alarm', 'reopened') AND starts_with(about, 'incident:') "
        "GROUP BY about",
        [line],
    )
    return sum(row["event"] == "false_alarm" for row in rows)


def _after(answer: Answer, row: Row) -> Answer:
    word: Word = row["event"]
    actor, at = row["actor"] or "", row["happened_at"]
    if row["reason"]:
        note = Note(word, row["reason"], actor, at)
        answer = replace(answer, notes=(*answer.notes, note))
    if word == "acknowledged":
        return replace(answer, acknowledged_by=actor, acknowledged_at=at)
    if word == "false_alarm":
        return replace(answer, false_alarm=row["reason"], acknowledged_by=actor, acknowledged_at=at)
    if word == "snoozed":
        return replace(answer, snoozed_until=row["until"])
    if word == "owner":
        return replace(answer, owner=row["owner"])
    if word == "reopened":
        return replace(
            answer,
            acknowledged_by=None,
            acknowledged_at=None,
            false_alarm=None,
            snoozed_until=None,
        )
    return answer
