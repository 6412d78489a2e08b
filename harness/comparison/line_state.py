"""What is the state of a line? The one answer that the pages, alerts, verbs and reports all read.

A line has a promoted version, a last candidate that the gate judged, trainings that work for it,
and a state in production. Nothing here decides anything: `line_reading` puts it together from what
was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from harness.comparison.attention_log import Answer
from harness.watch.monitor.incidents import Incident
from harness.watch.monitor.verdict import SignalVerdict, WatchOutcome, WatchVerdict

FORGOTTEN = timedelta(days=30)
"""An alarm that is over and that nobody answered is not told any more after so long."""

Holds = Literal[
    "promoted", "taken back", "judged before", "failed", "undecided", "incomparable",
    "another anchor", "nobody has promoted it",
]  # fmt: skip
TrainingState = Literal["running", "silent", "finished", "stopped", "interrupted"]


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a line's alias leads to.

    since        when it became so; `event` is `promoted` or `rolled_back`
    verdict_id   the verdict that it stands on, with its `outcome` and `headline`; None for none
    overridden   it was promoted past the gate, for `reason`
    seq          of that event in the store; 0 where the store wasn't told of it
    """

    digest: str
    version: int | None
    event: str
    since: datetime
    run_id: str | None
    model: str | None
    model_digest: str | None
    verdict_id: str | None
    outcome: str | None
    headline: str | None
    actor: str
    reason: str | None
    overridden: bool
    seq: int


@dataclass(frozen=True, slots=True)
class CandidateState:
    """The model that the gate judged last for a line, and its decision.

    outcome     of the verdict that decides: a FAIL against any opponent, else that on the anchor
    promotable  it passed, or was proven better
    holds       why it is not promoted; `promoted` where it is what is promoted
    """

    run_id: str
    model: str | None
    training_id: str | None
    step: int | None
    verdict_id: str
    outcome: str
    against: str
    headline: str
    settle: str
    decided_at: datetime
    look: int
    looks: int
    promotable: bool
    holds: Holds


@dataclass(frozen=True, slots=True)
class TrainingStand:
    """A training of a line. `last_at` is when anything was heard of it."""

    training_id: str
    recipe: str | None
    state: TrainingState
    step: int | None
    planned: int | None
    started_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Alarm:
    """An incident, and what people said about it.

    present   it is about what is served now, and the newest look at that still fails
    """

    incident: Incident
    answer: Answer
    present: bool

    @property
    def about(self) -> str:
        return f"incident:{self.incident.id}"


@dataclass(frozen=True, slots=True)
class Serving:
    """How what is promoted does in production.

    watched      whether the line's traffic was ever seen, or anything of it judged
    outcome      of what is served now: `fail` where any policy's newest look at it fails; None
                 where nobody has looked at this version
    false_alarm  every failure of it was called a false alarm: `outcome` is then `inconclusive`
    look         the newest look at it; None where there was none
    advisory     advisory signals that failed there
    share        of the traffic that a canary has, 0 to 1; 0 without one
    canary       digest of the canary's checkpoint
    uncounted    conversations that came in and that the newest look hasn't counted: they settle
    """

    watched: bool
    outcome: WatchOutcome | None
    false_alarm: bool
    look: WatchVerdict | None
    advisory: tuple[SignalVerdict, ...]
    share: float = 0.0
    canary: str | None = None
    uncounted: int = 0


@dataclass(frozen=True, slots=True)
class LineState:
    """Everything that is known of a line at one moment.

    promoted    None where nothing was ever promoted
    candidate   None where the gate never judged one
    judged      how many candidates the gate judged since the promotion
    trainings   that work for it or stopped without an end, the newest first
    alarms      incidents, the newest first, answered ones too
    answers     what people said about anything, by what it is about
    problem     why the line's files can't be read; None where they can
    at          the moment at which this was so
    """

    line: str
    promoted: Promoted | None
    candidate: CandidateState | None
    judged: int
    trainings: tuple[TrainingStand, ...]
    serving: Serving
    alarms: tuple[Alarm, ...]
    answers: Mapping[str, Answer]
    problem: str | None
    at: datetime

    def alarm_on_served(self) -> Alarm | None:
        """The failure of what is served now that nobody called a false alarm; None without one."""
        open_ = [a for a in self.alarms if a.present and a.answer.false_alarm is None]
        return open_[0] if open_ else None

    def unanswered(self) -> tuple[Alarm, ...]:
        """Alarms that nobody has seen, the newest first: those that last, and fresh ones."""
        return tuple(
            alarm
            for alarm in self.alarms
            if not alarm.answer.is_quiet(self.at)
            and (alarm.present or self.at - alarm.incident.last_at < FORGOTTEN)
        )
