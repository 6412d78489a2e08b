"""From conversations to a verdict on a served model, without I/O or a clock.

Each signal has a detector (for FAIL) and an interval (for PASS); both hold however often one looks.
The detector bets money against "the signal is no worse than its limit" and alarms once it has won
enough. Months of health cost it nearly all its money, so it gets a little every day: a drop that
begins late is still seen soon. The interval covers the current window and the one before, so that
last month's health doesn't vouch for today. docs/watch.md has the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.statistics.sequential import Detector, Moments, incomes, interval
from harness.watch.monitor.conversations import Units
from harness.watch.monitor.policy import WatchPolicy
from harness.watch.monitor.reference import Reference
from harness.watch.monitor.signals import BY_NAME
from harness.watch.monitor.verdict import AtAlarm, SignalVerdict, WatchOutcome, WatchRole

Array = npt.NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Track:
    """All that the next look needs to know of one signal's past.

    wealth      of the detector: the logarithm of its money at each stake; None before the first bet
    paid_until  the hour since 1970 up to which its income was paid
    windows     number of the window -> moments of the values in it, in the signal's unit
    failed_at   seconds since 1970 of the last alarm; None where there was none, or a PASS since
    alarms      how many there were
    alarmed_at  seconds since 1970 of the first alarm since it was last well; None where it is
    evidence    of the values of the current window and the one before, up to that alarm
    """

    wealth: tuple[float, ...] | None = None
    paid_until: float | None = None
    windows: Mapping[int, Moments] = field(default_factory=dict)
    failed_at: float | None = None
    alarms: int = 0
    alarmed_at: float | None = None
    evidence: Moments | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that a look leaves for the next one: a few kilobytes, however much was seen.

    cursor           `seq` up to which conversations were taken
    reference_until  `seq` up to which they served as the reference `first`
    first_s, last_s  moments of the first and the last conversation
    """

    cursor: int = 0
    reference_until: int = 0
    references: Mapping[str, Reference] = field(default_factory=dict)
    tracks: Mapping[str, Track] = field(default_factory=dict)
    units: int = 0
    observations: int = 0
    late: int = 0
    first_s: float | None = None
    last_s: float | None = None
    looks: int = 0

    def plain(self) -> dict[str, Any]:
        """JSON types only."""
        out = {name: getattr(self, name) for name in self.__slots__}
        out["references"] = {name: r.plain() for name, r in self.references.items()}
        out["tracks"] = {name: _plain_track(t) for name, t in self.tracks.items()}
        return {"format": FORMAT, **out}

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> State:
        """The inverse of `plain`."""
        known = {name: data[name] for name in cls.__slots__}
        known["references"] = {
            name: Reference.of_plain(r) for name, r in data["references"].items()
        }
        known["tracks"] = {name: _track(t) for name, t in data["tracks"].items()}
        return cls(**known)


def alpha_of_each(policy: WatchPolicy) -> float:
    """The false alarms a day that one signal may have: split evenly over all that could decide."""
    deciding = [n for n in policy.watched() if policy.role_of(n) != "advisory"]
    return policy.alpha_per_day / max(len(deciding), 1)


def fed(state: State, units: Units, policy: WatchPolicy) -> State:
    """The state after more conversations, which come in the order in which they were taken in.

    Feeding two lots one after the other is the same as feeding both at once.
    """
    tracks = dict(state.tracks)
    for name in policy.watched():
        reference, values = state.references.get(name), units.values.get(name)
        if reference is None or values is None:
            continue
        known = ~np.isnan(values)
        if reference.source == "first":
            # Those that made the reference must not be judged by it.
            known &= units.seq > state.reference_until
        if known.any():
            track = tracks.get(name, Track())
            tracks[name] = _bet(name, track, reference, values[known], units.at_s[known], policy)
    seen = units.at_s
    return replace(
        state,
        tracks=tracks,
        units=state.units + len(units),
        observations=state.observations + units.observations,
        late=state.late + units.late,
        first_s=_least(state.first_s, seen),
        last_s=float(max(seen.max(), state.last_s or 0)) if seen.size else state.last_s,
    )


def _bet(
    name: str, track: Track, reference: Reference, x: Array, at_s: Array, policy: WatchPolicy
) -> Track:
    pay, paid_until = incomes(at_s, track.paid_until)
    ring: tuple[int, ...] = ()
    wealth = track.wealth
    if reference.limit is not None:
        good, limit = _good(name, x, reference.limit)
        detector = Detector(limit) if wealth is None else Detector(limit, wealth)
        after = detector.after(good, pay, alpha_of_each(policy))
        ring, wealth = after.alarms, after.detector.wealth
    numbers = np.floor(np.maximum.accumulate(at_s) / policy.window_s).astype(int)
    alarmed_at, evidence = track.alarmed_at, track.evidence
    if ring and alarmed_at is None:
        # What people are shown as the reason: all that came later is no evidence of this alarm.
        upto = ring[0] + 1
        until = _recent(_added(track.windows, x[:upto], numbers[:upto]))
        alarmed_at, evidence = float(at_s[ring[0]]), sum(until.values(), Moments())
    # After an alarm a PASS, which ends the FAIL, must be shown by what came since.
    since = ring[-1] + 1 if ring else 0
    windows = _added({} if ring else track.windows, x[since:], numbers[since:])
    return Track(
        wealth,
        paid_until,
        _recent(windows),
        float(at_s[ring[-1]]) if ring else track.failed_at,
        track.alarms + len(ring),
        alarmed_at,
        evidence,
    )


def _added(
    windows: Mapping[int, Moments], x: Array, numbers: npt.NDArray[np.int_]
) -> dict[int, Moments]:
    """The windows with the values `x` in them, each in that of its number."""
    found = dict(windows)
    for number in np.unique(numbers).tolist():
        found[number] = found.get(number, Moments()) + Moments.of(x[numbers == number])
    return found


def _recent(windows: Mapping[int, Moments]) -> dict[int, Moments]:
    """The last window and the one before it."""
    return {n: m for n, m in windows.items() if n >= max(windows) - 1}


def _good(name: str, x: Array, limit: float) -> tuple[Array, float]:
    """Values and limit turned so that 1 is good, as the detector takes them."""
    return (x, limit) if BY_NAME[name].direction == "higher" else (1 - x, 1 - limit)


def decide(
    state: State, policy: WatchPolicy, now: datetime
) -> tuple[State, tuple[SignalVerdict, ...]]:
    """Every signal's verdict, and the state with the alarms cleared of those that pass again."""
    verdicts, tracks = [], dict(state.tracks)
    for name in policy.watched():
        track, reference = tracks.get(name, Track()), state.references.get(name)
        verdict = _verdict(name, track, reference, policy, now)
        verdicts.append(verdict)
        if verdict.outcome == "pass" and track.failed_at is not None:
            tracks[name] = replace(track, failed_at=None, alarmed_at=None, evidence=None)
    return replace(state, tracks=tracks), tuple(verdicts)


def _verdict(
    name: str, track: Track, reference: Reference | None, policy: WatchPolicy, now: datetime
) -> SignalVerdict:
    signal = BY_NAME[name]
    current = math.floor(now.timestamp() / policy.window_s)
    seen = sum((m for n, m in track.windows.items() if n >= current - 1), Moments())
    low, high = interval(seen) if seen.n else (None, None)
    outcome, reason = _outcome(name, track, reference, (low, high))
    measured = reference is not None and reference.n > 0
    role: WatchRole = "advisory"
    if policy.role_of(name) == "required" or (policy.role_of(name) == "if measured" and measured):
        role = "required"
    return SignalVerdict(
        signal=name,
        tier=signal.tier,
        outcome=outcome,
        value=seen.mean,
        low=low,
        high=high,
        reference=reference.limit if reference else None,
        n=seen.n,
        e_value=_money(track),
        reason=reason,
        role=role,
        direction=signal.direction,
        pass_limit=reference.pass_limit if reference else None,
        threshold=1 / alpha_of_each(policy),
        failed_at=_moment(track.failed_at),
        at_alarm=_at_alarm(track) if outcome == "fail" else None,
    )


def _at_alarm(track: Track) -> AtAlarm | None:
    """The numbers that the alarm was raised on; None without one, or for one of an older version,
    which did not keep them.
    """
    at, evidence = _moment(track.alarmed_at), track.evidence
    if at is None or evidence is None or not evidence.n:
        return None
    low, high = interval(evidence)
    return AtAlarm(at=at, value=evidence.mean, low=low, high=high, n=evidence.n)


def _outcome(
    name: str,
    track: Track,
    reference: Reference | None,
    ends: tuple[float | None, float | None],
) -> tuple[WatchOutcome, str]:
    if reference is None:
        return "inconclusive", "its reference is not complete yet"
    if reference.limit is None or reference.pass_limit is None:
        return "inconclusive", reference.problem or "it has no reference"
    low, high = ends
    lower = BY_NAME[name].direction == "lower"
    within = (
        low is not None
        and high is not None
        and (high <= reference.pass_limit if lower else low >= reference.pass_limit)
    )
    if within:
        return "pass", "shown to be within the margin"
    if track.failed_at is not None:
        when = datetime.fromtimestamp(track.alarmed_at or track.failed_at, UTC)
        worse = "above" if lower else "below"
        seen = _at_alarm(track)
        numbers = f", at {seen.value:.4g} over {seen.n:,} conversations" if seen else ""
        said = f"shown to be {worse} {reference.limit:.4g} on {when:%Y-%m-%d %H:%M} UTC{numbers}"
        return "fail", said
    if low is None:
        return (
            "inconclusive",
            "no conversation of the current window or the one before has a value of it",
        )
    if reference.hides_the_margin(BY_NAME[name].direction):
        return "inconclusive", (
            f"with {reference.n} values the reference is too small to show a margin this narrow"
        )
    return "inconclusive", "neither within nor beyond the margin is shown yet"


def overall(signals: Iterable[SignalVerdict]) -> WatchOutcome:
    """`fail` where a required signal failed, `pass` where all of them passed (one at least)."""
    outcomes = [signal.outcome for signal in signals if signal.required]
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes and set(outcomes) == {"pass"} else "inconclusive"


def _money(track: Track) -> float:
    if track.wealth is None:
        return 0.0
    return math.exp(min(float(np.logaddexp.reduce(np.asarray(track.wealth))), 700.0))


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _least(first_s: float | None, seen: Array) -> float | None:
    if not seen.size:
        return first_s
    return float(seen.min()) if first_s is None else float(min(first_s, seen.min()))


def _plain_track(track: Track) -> dict[str, Any]:
    out = asdict(track)
    if track.wealth is not None:
        out["wealth"] = [value if math.isfinite(value) else None for value in track.wealth]
    out["windows"] = {str(n): _plain_moments(m) for n, m in track.windows.items()}
    if track.evidence is not None:
        out["evidence"] = _plain_moments(track.evidence)
    return out


def _plain_moments(moments: Moments) -> list[float]:
    return [moments.n, moments.total, moments.squares]


def _track(data: Mapping[str, Any]) -> Track:
    wealth = data["wealth"]
    if wealth is not None:
        wealth = tuple(-math.inf if value is None else value for value in wealth)
    windows = {int(n): Moments(*moments) for n, moments in data["windows"].items()}
    evidence = Moments(*data["evidence"]) if data.get("evidence") else None
    return Track(
        wealth,
        data["paid_until"],
        windows,
        data["failed_at"],
        data["alarms"],
        data.get("alarmed_at"),
        evidence,
    )
