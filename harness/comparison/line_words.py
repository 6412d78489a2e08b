"""A line's state in fixed sentences, and the list of what needs a human."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from harness.comparison.attention_log import NOTHING, Answer
from harness.comparison.line_state import Alarm, LineState, TrainingStand
from harness.core.format import percent

Level = Literal["act", "look"]

GIVEN_UP = timedelta(days=7)
"""A training that has been silent for longer is not brought up any more."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """An English sentence with {places}; `values` fills them, also in translation."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text.format(**self.values)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that waits for somebody.

    level   `act`: something stands still or is wrong until a human decides; `look`: worth a look
    about   what it is about, by which people answer it (`comparison.attention_log`)
    page    the view that shows it, with its `params`
    """

    says: Sentence
    level: Level
    about: str
    line: str | None
    page: str
    params: Mapping[str, str] = field(default_factory=dict)
    answer: Answer = NOTHING

    @property
    def sentence(self) -> str:
        return str(self.says)


# May we ship?


def ship(state: LineState) -> list[Sentence]:
    """What is promoted and on which verdict, then the candidate and what holds it."""
    return [_promoted(state), _candidate(state)]


def _promoted(state: LineState) -> Sentence:
    now = state.promoted
    if state.problem is not None:
        return Sentence("Its files can't be read: {problem}", {"problem": state.problem})
    if now is None:
        return Sentence("Nothing is promoted yet.")
    values = {
        "version": f"v{now.version}" if now.version is not None else "v?",
        "digest": now.digest[:12],
        "model": now.model or "",
        "when": _day(now.since),
        "reason": now.reason or "",
        "actor": now.actor,
    }
    if now.event == "rolled_back":
        return Sentence("{version} ({digest}) serves again since {when}: {reason}", values)
    if now.overridden:
        return Sentence(
            "{version} ({digest}) is promoted since {when}, by override: {reason}", values
        )
    if now.verdict_id is None:
        return Sentence(
            "{version} ({digest}) is promoted since {when}; it was compared with nothing.", values
        )
    if now.outcome == "pass":
        return Sentence("{version} ({digest}) is promoted since {when}, on a PASS.", values)
    return Sentence("{version} ({digest}) is promoted since {when}: proven better.", values)


def _candidate(state: LineState) -> Sentence:
    found = state.candidate
    if found is None:
        return Sentence("The gate has judged no candidate yet.")
    name = found.model or found.run_id
    if found.step is not None and f"step {found.step}" not in name:
        name = f"{name} step {found.step}"
    values = {"name": name, "when": _day(found.decided_at)}
    match found.holds:
        case "promoted":
            return Sentence("The candidate judged last is what is promoted.", values)
        case "taken back":
            return Sentence(
                "The candidate judged last, {name}, was promoted and taken back.", values
            )
        case "judged before":
            return Sentence(
                "Nothing was judged since; before that, {name} was not promoted.", values
            )
        case "failed":
            return Sentence("Candidate {name} failed: don't ship it.", values)
        case "undecided":
            return Sentence("Candidate {name} is undecided: not yet.", values)
        case "incomparable":
            return Sentence("Candidate {name} could not be compared: nothing was shown.", values)
        case "another anchor":
            return Sentence(
                "Candidate {name} passed, but against something else than what is promoted.", values
            )
        case "nobody has promoted it":
            return Sentence("Candidate {name} may ship; nobody has promoted it.", values)


# Is what is served well?


def serving(state: LineState) -> Sentence:
    """The state in production, in one sentence."""
    alarm, found = state.alarm_on_served(), state.serving
    if alarm is not None and alarm.incident.kind != "canary":
        return _failing(alarm)
    if not found.watched:
        return Sentence("Its traffic is not watched.")
    if state.promoted is None:
        return Sentence("Traffic was seen, and nothing is promoted that it could be judged as.")
    if found.false_alarm:
        return Sentence("An alarm was called false: {reason}", {"reason": _false(state)})
    if found.look is None:
        return Sentence("Nobody has looked at this version yet.")
    values = {
        "when": _minute(found.look.decided_at),
        "n": f"{_conversations(found.look):,}",
    }
    if found.outcome == "pass":
        return Sentence(
            "PASS: within the margins on {n} conversations, looked at {when} UTC.", values
        )
    if not _conversations(found.look):
        return Sentence("No conversation is counted yet, looked at {when} UTC.", values)
    return Sentence("Nothing failed so far on {n} conversations, looked at {when} UTC.", values)


def settling(state: LineState) -> Sentence | None:
    """How many conversations came in that don't count yet; None where all do."""
    if not state.serving.uncounted:
        return None
    values = {"n": f"{state.serving.uncounted:,}"}
    return Sentence(
        "{n} conversations came in that the last look has not counted: each settles first (settle "
        "in the policy, 10 min by default).",
        values,
    )


def canary(state: LineState) -> Sentence | None:
    """What share a canary has; None where none runs."""
    if state.serving.canary is None:
        return None
    values = {"digest": state.serving.canary[:12], "share": percent(state.serving.share)}
    return Sentence("A canary runs: {digest} has {share} of the traffic.", values)


def _failing(alarm: Alarm) -> Sentence:
    values = {
        "signals": alarm.incident.names,
        "when": _minute(alarm.incident.began_at),
        "n": f"{_conversations(alarm.incident.first):,}",
    }
    held = alarm.incident.held
    if held is not None:
        values["reason"] = held.reason
        return Sentence(
            "FAIL: {signals} since {when} UTC, on {n} conversations; nothing could be done: "
            "{reason}",
            values,
        )
    return Sentence(
        "FAIL: {signals} since {when} UTC, on {n} conversations; nothing was done about it.",
        values,
    )


def _false(state: LineState) -> str:
    return next((a.answer.false_alarm for a in state.alarms if a.answer.false_alarm), "")


def _conversations(verdict: Any) -> int:
    return int(verdict.detail.get("conversations") or verdict.observations or 0)


def of_run(state: LineState, run_id: str, model_digest: str) -> list[Sentence]:
    """What a line has to say of one run: that it is promoted, or what holds it; mostly nothing."""
    now, found = state.promoted, state.candidate
    if now is not None and (now.run_id == run_id or now.model_digest == model_digest):
        failing = state.alarm_on_served()
        more = [serving(state)] if failing is not None else []
        return [_promoted(state), *more]
    if found is not None and found.run_id == run_id:
        return [_candidate(state)]
    return []


# What needs a human.


def needs(state: LineState) -> list[Need]:
    """What waits for somebody on one line, the most urgent first; what was answered left out."""
    found = [*_of_alarms(state), *_of_advisory(state), *_of_gate(state)]
    found += [n for stand in state.trainings for n in of_training(stand, state.at, state.line)]
    return unanswered(found, state.answers, state.at)


def unanswered(found: Sequence[Need], answers: Mapping[str, Answer], now: datetime) -> list[Need]:
    """The needs that nobody has answered, `act` first, each with what people said about it."""
    asked = [replace(need, answer=answers.get(need.about, NOTHING)) for need in found]
    return sorted(
        (need for need in asked if not need.answer.is_quiet(now)), key=lambda need: need.level
    )


def exit_code(state: LineState) -> int:
    """As the gate's: 1 where what is served fails, 2 where something waits for a decision, else 0.

    Acknowledging an alarm doesn't make what is served good; calling it false does.
    """
    if state.alarm_on_served() is not None:
        return 1
    return 2 if any(need.level == "act" for need in needs(state)) else 0


def alarm_sentence(state: LineState, alarm: Alarm) -> Sentence:
    """What an alarm is about, and what was done."""
    return _alarm(state, alarm)[0]


def said_of(answer: Answer) -> str:
    """Who has seen it, whose it is, and until when it is put off; empty for nothing."""
    parts = []
    if answer.false_alarm is not None:
        parts.append(f"a false alarm, says {answer.acknowledged_by}: {answer.false_alarm}")
    elif answer.acknowledged_by is not None:
        parts.append(f"acknowledged by {answer.acknowledged_by}")
    if answer.owner is not None:
        parts.append(f"{answer.owner} takes care of it")
    if answer.snoozed_until is not None:
        parts.append(f"put off until {_minute(answer.snoozed_until)} UTC")
    return f"({'; '.join(parts)})" if parts else ""


def _of_alarms(state: LineState) -> list[Need]:
    return [
        Need(says, level, alarm.about, state.line, "watch", _place(state, alarm))
        for alarm in state.unanswered()
        for says, level in [_alarm(state, alarm)]
    ]


def _place(state: LineState, alarm: Alarm) -> dict[str, str]:
    return {"line": state.line, "watch": alarm.incident.id}


def _alarm(state: LineState, alarm: Alarm) -> tuple[Sentence, Level]:
    incident = alarm.incident
    values: dict[str, Any] = {
        "line": state.line,
        "signals": incident.names,
        "digest": (incident.model_digest or "")[:12],
        "when": _minute(incident.began_at),
    }
    if incident.kind == "canary":
        if alarm.present:
            return Sentence("{line}: its canary {digest} fails ({signals}). End it.", values), "act"
        return Sentence("{line}: its canary {digest} failed ({signals}).", values), "look"
    if alarm.present and incident.held is not None:
        values["reason"] = incident.held.reason
        said = "{line}: what is served fails ({signals}), and nothing could be done: {reason}"
        return Sentence(said, values), "act"
    if alarm.present:
        said = "{line}: what is served fails ({signals}), and nothing was done about it."
        return Sentence(said, values), "act"
    if incident.taken_back is not None:
        said = "{line}: {digest} failed in production ({signals}) and was taken back."
        return Sentence(said, values), "look"
    said = "{line}: {digest} failed in production ({signals}) on {when} UTC; that is over."
    return Sentence(said, values), "look"


def _of_advisory(state: LineState) -> list[Need]:
    if not state.serving.advisory or state.promoted is None:
        return []
    names = ", ".join(signal.signal for signal in state.serving.advisory)
    values = {"line": state.line, "signals": names}
    says = Sentence("{line}: got worse in production, advisory: {signals}.", values)
    about = f"advisory:{state.line}:{state.promoted.digest[:12]}:{names}"
    return [Need(says, "look", about, state.line, "watch", {"line": state.line})]


def _of_gate(state: LineState) -> list[Need]:
    values = {"line": state.line}
    found = []
    if state.problem is not None:
        says = Sentence(
            "{line}: its files can't be read: {problem}", {**values, "problem": state.problem}
        )
        found.append(Need(says, "act", f"files:{state.line}", state.line, "overview"))
    candidate = state.candidate
    said = _HOLDS.get(candidate.holds) if candidate else None
    if candidate is not None and said is not None and not _in_training(state):
        text, level = said
        place = {"verdict": candidate.verdict_id}
        about = f"verdict:{candidate.verdict_id}"
        found.append(Need(Sentence(text, values), level, about, state.line, "verdict", place))
    if state.promoted is not None and state.promoted.overridden:
        says = Sentence("{line}: the promoted version was promoted by override.", values)
        about = f"promotion:{state.line}:{state.promoted.version}"
        place = {"line": state.line}
        found.append(Need(says, "look", about, state.line, "promotions", place))
    return found


def _in_training(state: LineState) -> bool:
    """Whether the candidate is a checkpoint of a training that runs: the training deals with it."""
    made_by = state.candidate.training_id if state.candidate else None
    return any(t.training_id == made_by and t.state == "running" for t in state.trainings)


_HOLDS: Mapping[str, tuple[str, Level]] = {
    "failed": ("{line}: the last candidate failed. Find out why, or leave it.", "look"),
    "undecided": ("{line}: the last candidate is undecided.", "act"),
    "incomparable": ("{line}: the last candidate could not be compared with the anchor.", "act"),
    "another anchor": (
        "{line}: the last candidate passed against something else than what is promoted. "
        "Gate it again.",
        "look",
    ),
    "nobody has promoted it": (
        "{line}: the last candidate passed and is not promoted yet.",
        "act",
    ),
}


def of_training(stand: TrainingStand, now: datetime, line: str | None = None) -> list[Need]:
    """What a training that stopped without an end asks of somebody; nothing while it runs."""
    values = {"id": stand.training_id, "status": stand.state, "when": _minute(stand.last_at)}
    place = {"training": stand.training_id}
    about = f"training:{stand.training_id}"
    if stand.state in ("stopped", "interrupted"):
        says = Sentence("Training {id} has stopped ({status}) and waits for you.", values)
        return [Need(says, "act", about, line, "trainings", place)]
    if stand.state == "silent" and now - stand.last_at < GIVEN_UP:
        says = Sentence(
            "Nothing was heard of training {id} since {when} UTC. "
            "The same command goes on with it.",
            values,
        )
        return [Need(says, "look", about, line, "trainings", place)]
    return []


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
