"""One look at a served model: reads what is new, decides, and stores verdict and state.

Verdict and state are one row. So a look that is killed leaves nothing behind, and nothing is
counted twice. Two processes that look at once go on from the same row, and the verdict of each is
valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.core.errors import UserError
from harness.registry.lines import PromotedVersion
from harness.registry.registry import Registry
from harness.statistics.sequential import Moments
from harness.store.store import Store
from harness.watch.monitor import reference as references
from harness.watch.monitor.conversations import Reader, Scope, Units
from harness.watch.monitor.decision import State, alpha_of_each, decide, fed, overall
from harness.watch.monitor.policy import DEFAULT_WATCH_POLICY, WatchPolicy
from harness.watch.monitor.reference import Reference
from harness.watch.monitor.signals import BY_NAME
from harness.watch.monitor.verdict import WatchVerdict

MANY_PREVIOUS = 10
"""Of a version that served before, up to so many times the policy's conversations are taken, the
latest: they are there already, and the more there are, the tighter the bound."""


@dataclass(frozen=True, slots=True)
class ReferenceProgress:
    """How complete the reference `first` is: `have` of the `need` conversations."""

    have: int
    need: int


def check(
    store: Store,
    registry: Registry,
    line: str,
    policy: WatchPolicy = DEFAULT_WATCH_POLICY,
    *,
    now: datetime | None = None,
) -> WatchVerdict:
    """Look at what a line serves now: the verdict, appended to watch_verdicts if it is new.

    Reads only what came since the last look of this policy at this checkpoint. May be called at
    any time and any number of times; that changes no error rate. Raises UserError where nothing
    was promoted on the line, or a reference that the policy names can't be had.
    """
    promoted = registry.promoted(line)
    if promoted is None:
        raise UserError(
            f"nothing was ever promoted on {line}", hint="promote a checkpoint: `ratchet promote`"
        )
    now = now or datetime.now(UTC)
    before = last(store, line, promoted.digest, policy)
    look = _Look(store, registry, promoted, policy, now)
    state, pending = look.onward(State.of_plain(before.state) if before else State())
    if (
        before is not None
        and state.cursor == before.state["cursor"]
        and not _aged(before, policy, now)
    ):
        return before
    verdict = look.verdict(state, pending, before)
    store.append("watch_verdicts", [verdict.row()])
    return verdict


def last(store: Store, line: str, digest: str, policy: WatchPolicy) -> WatchVerdict | None:
    """The last verdict of a policy on a checkpoint of a line; None before the first."""
    rows = store.query(
        """SELECT * FROM watch_verdicts
        WHERE kind = 'watch' AND line = ? AND model_digest = ? AND policy_digest = ?
        ORDER BY seq DESC LIMIT 1""",
        [line, digest, policy.digest],
    )
    return WatchVerdict.from_row(rows[0]) if rows else None


def latest(store: Store, line: str) -> WatchVerdict | None:
    """The last verdict on a line, on any version and by any policy; None before the first."""
    rows = store.query(
        "SELECT * FROM watch_verdicts WHERE kind = 'watch' AND line = ? ORDER BY seq DESC LIMIT 1",
        [line],
    )
    return WatchVerdict.from_row(rows[0]) if rows else None


def _aged(before: WatchVerdict, policy: WatchPolicy, now: datetime) -> bool:
    """Whether a window has ended since: the interval now covers others, so the verdict is stale."""
    at = before.decided_at
    return int(now.timestamp() // policy.window_s) != int(at.timestamp() // policy.window_s)


class _Look:
    """One look at one promoted version, by one policy, at one moment."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        promoted: PromotedVersion,
        policy: WatchPolicy,
        now: datetime,
    ) -> None:
        self._store = store
        self._registry = registry
        self._promoted = promoted
        self._policy = policy
        self._now = now
        scope = Scope(promoted.line, promoted.digest, datetime.fromisoformat(promoted.at))
        self._reader = Reader(store, scope, policy)

    def onward(self, state: State) -> tuple[State, ReferenceProgress | None]:
        """The state after all conversations settled by now, and how far an open reference is."""
        upto = self._reader.settled_until(self._now)
        state = self._with_other_references(state)
        state, pending = self._with_first_reference(state, upto)
        for place in self._reader.chunks(state.cursor, upto):
            units = self._reader.read(state.cursor, place, state.references)
            state = replace(fed(state, units, self._policy), cursor=place)
        return replace(state, looks=state.looks + 1), pending

    def verdict(
        self, state: State, pending: ReferenceProgress | None, before: WatchVerdict | None
    ) -> WatchVerdict:
        state, signals = decide(state, self._policy, self._now)
        by_source = {r.source: r.digest for r in state.references.values()}
        return WatchVerdict(
            watch_id=self._name(before, state),
            kind="watch",
            line=self._promoted.line,
            model_digest=self._promoted.digest,
            reference_digest=next(iter(by_source.values()), None),
            policy_digest=self._policy.digest,
            outcome=overall(signals),
            observations=state.observations,
            window_from=_moment(self._window_from(state)),
            window_to=_moment(state.last_s),
            signals=signals,
            state=state.plain(),
            decided_at=self._now,
            detail={
                "conversations": state.units,
                "late": state.late,
                "looks": state.looks,
                "alpha_per_day": self._policy.alpha_per_day,
                "reference": _sources(state),
                "waiting": {"have": pending.have, "need": pending.need} if pending else None,
            },
        )

    def _window_from(self, state: State) -> float | None:
        if state.first_s is None:
            return None
        window_s = self._policy.window_s
        return max(state.first_s, (self._now.timestamp() // window_s - 1) * window_s)

    def _name(self, before: WatchVerdict | None, state: State) -> str:
        parts = (
            self._promoted.line,
            self._promoted.digest,
            self._policy.digest,
            before.watch_id if before else "",
            str(state.cursor),
            self._now.isoformat(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    # References.

    def _with_other_references(self, state: State) -> State:
        """The state with references from an anchor's run or an earlier version.

        Each is made once, and then stays the same.
        """
        found = dict(state.references)
        elsewhere: dict[str, Mapping[str, Reference]] = {}
        for name in self._policy.watched():
            source = self._policy.source_of(name)
            if name in found or source == "first":
                continue
            if source == "anchor":
                found[name] = self._of_anchor(name)
                continue
            if source not in elsewhere:
                elsewhere[source] = self._of_version(source)
            if name in elsewhere[source]:
                found[name] = elsewhere[source][name]
        return replace(state, references=found)

    def _of_anchor(self, name: str) -> Reference:
        metric = self._policy.of(name).metric or ""
        if BY_NAME[name].centred:
            answers = references.anchor_answers(self._store, self._promoted.run_id, name)
            return self._of_answers(name, answers, "anchor", self._promoted.digest)
        if BY_NAME[name].inside is not None:
            raise UserError(
                f"the signal {name!r} has no counterpart among an anchor's scores",
                field=f"signals.{name}.reference",
                hint="use `reference: previous` or `first`",
            )
        run_id = self._promoted.run_id
        moments = references.anchor_moments(self._store, run_id, metric, name)
        return self._of_moments(name, moments, "anchor", self._promoted.digest)

    def _of_version(self, source: str) -> Mapping[str, Reference]:
        """Each signal's reference from an earlier version; empty for `auto` where there is none."""
        history = self._registry.history(self._promoted.line)
        if source in ("auto", "previous"):
            # Not the last in time: after a roll back that is the version which failed.
            earlier = [v for v in history if v.number == self._promoted.previous]
        else:
            earlier = [v for v in history[:-1] if v.digest.startswith(source)]
        earlier = [v for v in earlier if v.digest != self._promoted.digest]
        kind = "previous" if source in ("auto", "previous") else "named"
        found = self._references_of(earlier[-1], history, kind) if earlier else None
        if found is None and source == "auto":
            return {}
        if found is None:
            raise UserError(
                f"{self._promoted.line} has no earlier version with {self._policy.conversations} "
                f"conversations to serve as the reference {source!r}",
                field="reference",
                hint="use `reference: auto`, which then takes the version's own first ones",
            )
        return found

    def _references_of(
        self, version: PromotedVersion, history: list[PromotedVersion], kind: str
    ) -> Mapping[str, Reference] | None:
        """The references from a version's last conversations; None where it served too few."""
        after = next((v for v in history if v.number == version.number + 1), None)
        until = datetime.fromisoformat(after.at) if after else None
        since = datetime.fromisoformat(version.at)
        scope = Scope(version.line, version.digest, since, until)
        reader = Reader(self._store, scope, self._policy)
        upto = reader.settled_until(self._now)
        many = self._policy.conversations
        firsts = reader.firsts(upto, last=many * MANY_PREVIOUS)
        if len(firsts) < many:
            return None
        places = (firsts[0] - 1, firsts[-1])
        return self._built(reader, list(self._policy.watched()), places, kind, version.digest)

    def _with_first_reference(
        self, state: State, upto: int
    ) -> tuple[State, ReferenceProgress | None]:
        """The state with the version's own first conversations as the reference of signals that
        have no other, once there are enough of them; until then, how many there are.
        """
        missing = [name for name in self._policy.watched() if name not in state.references]
        if not missing:
            return state, None
        need = self._policy.conversations
        firsts = self._reader.firsts(upto, limit=need)
        if len(firsts) < need:
            return state, ReferenceProgress(len(firsts), need)
        found = self._built(self._reader, missing, (0, firsts[-1]), "first", self._promoted.digest)
        references_ = {**state.references, **found}
        return replace(state, references=references_, reference_until=firsts[-1]), None

    def _built(
        self,
        reader: Reader,
        names: list[str],
        places: tuple[int, int],
        source: str,
        digest: str,
    ) -> dict[str, Reference]:
        found: dict[str, Reference] = {}
        moments: dict[str, Moments] = {}
        for units in _lots(reader, *places):
            for name, values in units.values.items():
                known = Moments.of(values[~np.isnan(values)])
                moments[name] = moments.get(name, Moments()) + known
        for name in names:
            signal = BY_NAME[name]
            if signal.centred:
                answers = reader.answers(name, *places)
                found[name] = self._of_answers(name, answers, source, digest)
            elif signal.inside is None:
                seen = moments.get(name, Moments())
                found[name] = self._of_moments(name, seen, source, digest)
            else:
                numbers, units_ = reader.raw(name, *places)
                found[name] = references.of_numbers(
                    signal,
                    numbers,
                    units_,
                    margin=self._policy.margin_of(name),
                    alpha=self._alpha(),
                    source=source,
                    digest=digest,
                )
        return found

    def _of_moments(self, name: str, moments: Moments, source: str, digest: str) -> Reference:
        return references.of_moments(
            moments,
            BY_NAME[name].direction,
            margin=self._policy.margin_of(name),
            floor=self._policy.floor_of(name),
            alpha=self._alpha(),
            source=source,
            digest=digest,
        )

    def _of_answers(self, name: str, answers: list[str], source: str, digest: str) -> Reference:
        """The middle of every second answer, and the distances of the others from it.

        Not of all from the middle of all: answers lie closer to a middle that they helped to make
        than served ones will.
        """
        from harness.watch.monitor.model_signals import centre, distances

        model = self._policy.of(name).options.get("model")
        half = answers[::2]
        if len(half) < references.FEWEST:
            return self._of_moments(name, Moments(), source, digest)
        middle = centre(half, model)
        found = Moments.of(distances(answers[1::2], middle, model))
        return replace(self._of_moments(name, found, source, digest), centre=middle)

    def _alpha(self) -> float:
        """The error rate of each bound: the policy's, split evenly over the deciding signals."""
        share = alpha_of_each(self._policy) / self._policy.alpha_per_day
        return self._policy.reference_alpha * share


def _lots(reader: Reader, cursor: int, upto: int) -> Iterator[Units]:
    for place in reader.chunks(cursor, upto):
        yield reader.read(cursor, place, {})
        cursor = place


def _sources(state: State) -> dict[str, dict[str, Any]]:
    """Source -> digest and signals of its references, as the verdict's detail shows them."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in state.references.items():
        entry = found.setdefault(one.source, {"digest": one.digest, "signals": []})
        entry["signals"].append(name)
    return found


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
