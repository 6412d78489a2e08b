"""Puts a line's state together from the registry, the gate's verdicts, trainings and the watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.comparison import line_facts as facts
from harness.comparison.attention_log import NOTHING, answers
from harness.comparison.line_state import (
    Alarm,
    CandidateState,
    Holds,
    LineState,
    Promoted,
    Serving,
    TrainingStand,
    TrainingState,
)
from harness.core.errors import UserError
from harness.core.types import Row
from harness.registry import lines as on_disk
from harness.store.store import Store
from harness.watch.monitor.incidents import Incident, incidents
from harness.watch.monitor.verdict import WatchOutcome, WatchVerdict
from harness.watch.rollout import traffic_split as splits

QUIET = timedelta(minutes=15)
"""A training that ended in no event and was silent for so long may have been killed."""

_ENDINGS: Mapping[str, TrainingState] = {
    "finished": "finished",
    "promoted": "finished",
    "stopped": "stopped",
    "interrupted": "interrupted",
}


def states(
    store: Store, line: str | None = None, *, now: datetime | None = None
) -> list[LineState]:
    """The state of every line, or of one, the last active first. At most `line_facts.MOST`.

    Raises UserError where the store can't be read.
    """
    now = now or datetime.now(UTC)
    names = facts.names(store, line)
    if line is not None and not names and on_disk.current(store.workspace.lines / line):
        names = {line: False}
    if not names:
        return []
    known = _Known(store, names, now)
    return [known.state_of(name) for name in names]


def loose_trainings(store: Store, *, now: datetime | None = None) -> list[TrainingStand]:
    """Trainings that work for no line and did not finish, the newest first."""
    now = now or datetime.now(UTC)
    stands = [training_stand(row, now) for row in facts.trainings(store) if row["line"] is None]
    return [stand for stand in stands if stand.state != "finished"]


def state_of(store: Store, line: str, *, now: datetime | None = None) -> LineState:
    """The state of one line. Raises UserError for a line that nothing is known of."""
    found = states(store, on_disk.check_name(line), now=now)
    if not found:
        known = ", ".join(facts.names(store)) or "none yet"
        raise UserError(f"there is no line {line!r}", field="line", hint=f"the lines are: {known}")
    return found[0]


class _Known:
    """The facts of all lines, read once."""

    def __init__(self, store: Store, names: Mapping[str, bool], now: datetime) -> None:
        self._store, self._now = store, now
        self._versions = facts.versions(store)
        self._problems: dict[str, str] = {}
        self._current = {line: row for line in names if (row := self._now_of(line)) is not None}
        chosen = self._current.values()
        self._runs = facts.runs(store, [row["run_id"] for row in chosen])
        self._verdicts = facts.verdicts(store, [row["verdict_id"] for row in chosen])
        self._candidates = facts.candidates(store)
        self._judged = facts.judged_since(store)
        self._registered = facts.registered(store)
        self._trainings: dict[str, list[TrainingStand]] = {}
        for row in facts.trainings(store):
            self._trainings.setdefault(row["line"], []).append(training_stand(row, now))
        self._looks = facts.looks(store)
        self._uncounted = facts.uncounted(store)
        self._observed = names
        self._answers = answers(store)
        self._incidents: dict[str, list[Incident]] = {}
        for incident in incidents(store):
            self._incidents.setdefault(incident.line, []).append(incident)

    def state_of(self, line: str) -> LineState:
        promoted = self._promoted(line)
        alarms = self._alarms(line, promoted)
        return LineState(
            line=line,
            promoted=promoted,
            candidate=self._candidate(line, promoted),
            judged=self._judged.get(line, 0),
            trainings=tuple(t for t in self._trainings.get(line, []) if t.state != "finished"),
            serving=self._serving(line, promoted, alarms),
            alarms=alarms,
            answers=self._answers,
            problem=self._problems.get(line),
            at=self._now,
        )

    # What is promoted: the disk decides, and the store knows the rest.

    def _now_of(self, line: str) -> Row | None:
        told = self._versions.get(line, [])
        try:
            folder = self._folder(line)
            disk = on_disk.current(folder) if folder is not None else None
        except UserError as error:
            self._problems[line] = error.what
            return None
        if disk is None:
            return told[-1] if told else None
        known = (row for row in reversed(told) if row["version"] == disk.number)
        return next(known, None) or _told(disk)

    def _promoted(self, line: str) -> Promoted | None:
        row = self._current.get(line)
        if row is None:
            return None
        run = self._runs.get(row["run_id"] or "", {})
        verdict = self._verdicts.get(row["verdict_id"] or "", {})
        return Promoted(
            digest=row["digest"],
            version=row["version"],
            event=row["event"],
            since=row["happened_at"],
            run_id=row["run_id"],
            model=run.get("model"),
            model_digest=run.get("model_digest"),
            verdict_id=row["verdict_id"],
            outcome=verdict.get("outcome"),
            headline=verdict.get("headline"),
            actor=row["actor"] or "",
            reason=row["reason"],
            overridden=row["overridden"],
            seq=row["seq"],
        )

    # The last candidate.

    def _candidate(self, line: str, promoted: Promoted | None) -> CandidateState | None:
        rows = self._candidates.get(line)
        if not rows:
            return None
        row = deciding(rows)
        promotable = row["outcome"] == "pass" or bool(row["promotable"])
        return CandidateState(
            run_id=row["candidate_run"],
            model=row["model"],
            training_id=row["training_id"],
            step=row["step"],
            verdict_id=row["verdict_id"],
            outcome=row["outcome"],
            against=row["against"] or "anchor",
            headline=row["headline"] or "",
            settle=row["settle"] or "",
            decided_at=row["decided_at"],
            look=row["look"] or 1,
            looks=row["looks"] or 1,
            promotable=promotable and row["outcome"] != "fail",
            holds=self._holds(line, row, rows, promoted, promotable),
        )

    def _holds(
        self,
        line: str,
        row: Row,
        rows: Sequence[Row],
        promoted: Promoted | None,
        promotable: bool,
    ) -> Holds:
        if promoted is not None and self._is(row, promoted):
            return "promoted"
        earlier = self._versions.get(line, [])
        before = any(
            version["run_id"] == row["candidate_run"]
            or version["digest"] == self._registered.get(row["candidate_run"])
            for version in earlier
        )
        if promoted is not None and before:
            return "taken back"
        if promoted is not None and max(r["seq"] for r in rows) < promoted.seq:
            return "judged before"
        if row["outcome"] == "fail":
            return "failed"
        if row["outcome"] == "incomparable":
            return "incomparable"
        if not promotable:
            return "undecided"
        if promoted is not None and not _is_against(row, promoted):
            return "another anchor"
        return "nobody has promoted it"

    def _is(self, row: Row, promoted: Promoted) -> bool:
        """Whether a judged candidate is what is promoted: by its run, verdict, bytes or model."""
        return (
            row["candidate_run"] == promoted.run_id
            or row["verdict_id"] == promoted.verdict_id
            or self._registered.get(row["candidate_run"]) == promoted.digest
            or (row["model_digest"] is not None and row["model_digest"] == promoted.model_digest)
        )

    # Production.

    def _alarms(self, line: str, promoted: Promoted | None) -> tuple[Alarm, ...]:
        found = []
        for incident in self._incidents.get(line, []):
            about = f"incident:{incident.id}"
            present = promoted is not None and self._is_present(incident, promoted)
            found.append(Alarm(incident, self._answers.get(about, NOTHING), present))
        return tuple(found)

    def _is_present(self, incident: Incident, promoted: Promoted) -> bool:
        if incident.kind == "canary":
            split = self._split(incident.line)
            runs_on = split is not None and split.candidate == incident.model_digest
            return incident.lasts and runs_on
        served = incident.model_digest in (None, promoted.digest)
        since = (incident.term or 0) >= promoted.seq
        return incident.lasts and served and since and not self._is_over(incident)

    def _is_over(self, incident: Incident) -> bool:
        """Whether the breaker's FAIL has passed: it stores no other outcome that would end it."""
        if incident.kind != "breaker":
            return False
        return any(
            look["model_digest"] == incident.model_digest
            and (
                look["decided_at"] > incident.last_at + timedelta(hours=1)
                or (look["outcome"] == "pass" and look["decided_at"] > incident.last_at)
            )
            for look in self._looks.get(incident.line, [])
        )

    def _split(self, line: str) -> splits.Split | None:
        folder = self._folder(line)
        try:
            found = splits.read(folder) if folder is not None else None
        except UserError:
            return None
        return None if found is None or found.ended else found

    def _folder(self, line: str) -> Path | None:
        """Where a line lies; None for what can't be its name: senders of traffic choose freely."""
        try:
            return self._store.workspace.lines / on_disk.check_name(line)
        except UserError:
            return None

    def _serving(self, line: str, promoted: Promoted | None, alarms: Sequence[Alarm]) -> Serving:
        rows = self._looks.get(line, [])
        watched = bool(rows or alarms) or self._observed[line]
        split = self._split(line)
        share, canary = (split.share, split.candidate) if split else (0.0, None)
        mine = [
            row
            for row in rows
            if promoted is None
            or (row["model_digest"] in (None, promoted.digest) and row["seq"] > promoted.seq)
        ]
        look = WatchVerdict.from_row(mine[-1]) if mine else None
        failing = [alarm for alarm in alarms if alarm.present and alarm.incident.kind != "canary"]
        false = bool(failing) and all(alarm.answer.false_alarm for alarm in failing)
        outcome: WatchOutcome | None = look.outcome if look else None
        if failing:
            outcome = "inconclusive" if false else "fail"
        signals = look.signals if look else ()
        advisory = tuple(s for s in signals if not s.required and s.outcome == "fail")
        uncounted = self._uncounted.get(line, 0) if look else 0
        return Serving(watched, outcome, false, look, advisory, share, canary, uncounted)


def deciding(rows: Sequence[Row]) -> Row:
    """Of a candidate's verdicts, each the newest against its opponent, the one that decides.

    A FAIL against any opponent stops it; else what was said against the anchor counts.
    """
    return max(
        rows,
        key=lambda row: (
            row["outcome"] == "fail",
            row["against"] == "anchor" or str(row["against"]).startswith("line:"),
            row["seq"],
        ),
    )


def training_stand(row: Row, now: datetime) -> TrainingStand:
    """Where a training stands: at its end, or `silent` where nothing was heard for `QUIET`."""
    state = _ENDINGS.get(row["last_event"] or "")
    if state is None:
        state = "silent" if now - row["last_at"] > QUIET else "running"
    return TrainingStand(
        training_id=row["training_id"],
        recipe=row["recipe"],
        state=state,
        step=row["step"],
        planned=_planned(row["config"] or {}),
        started_at=row["started_at"],
        last_at=row["last_at"],
    )


def _planned(config: Mapping[str, Any]) -> int | None:
    stages = config.get("stages") or ()
    number = (config.get("stage") or {}).get("number") or 1
    return stages[number - 1].get("steps") if number <= len(stages) else None


def _is_against(row: Row, promoted: Promoted) -> bool:
    return row["anchor_run"] == promoted.run_id or (
        row["anchor_digest"] is not None and row["anchor_digest"] == promoted.model_digest
    )


def _told(version: on_disk.PromotedVersion) -> Row:
    """A version that the store has not been told of yet, as one of its rows."""
    return {
        "digest": version.digest,
        "version": version.number,
        "event": version.event,
        "happened_at": datetime.fromisoformat(version.at),
        "run_id": version.run_id,
        "verdict_id": version.verdict_id,
        "actor": version.actor,
        "reason": version.override or version.reason,
        "overridden": version.override is not None,
        "seq": 0,
    }
