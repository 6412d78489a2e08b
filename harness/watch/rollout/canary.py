"""Compares a candidate with the promoted version on live traffic, both at the same time.

Each arm has a confidence sequence for each signal, valid however often one looks. A signal is FAIL
where every value in the candidate's is worse, by more than the margin, than every value in the
promoted one's, and PASS where none is. FAIL shares alpha over the steps of the ramp and the signals
that decide; PASS needs all of those signals at once, and so shares nothing.

The comparison is fair only if traffic was split as planned. Where an arm got more or fewer
conversations than chance allows, or conversations saw both arms, the verdict is inconclusive and
says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.sample_ratio import log_mismatch
from harness.statistics.sequential import Moments, interval
from harness.watch.monitor.conversations import Reader, Scope
from harness.watch.monitor.decision import overall
from harness.watch.monitor.policy import WatchPolicy
from harness.watch.monitor.reference import FEWEST
from harness.watch.monitor.signals import BY_NAME
from harness.watch.monitor.verdict import SignalVerdict, WatchOutcome, WatchVerdict
from harness.watch.rollout.actions import id_of
from harness.watch.rollout.traffic_split import Split

if TYPE_CHECKING:
    from harness.store.store import Store

ALPHA = 0.05
"""Chance that an identical candidate ever fails, over the whole ramp and all looks."""

MISMATCH_ALPHA = 0.001
"""Chance that a split which works as planned is ever called mismatched, at one step."""

CROSSED = 0.01
"""Share of conversations answered by both arms, above which nothing is concluded."""

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Within one line, an answer that names no checkpoint may be of either arm. With this as the moment
since which unnamed answers count, it counts for neither."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of the comparison: the conversations that began in it during this step.

    `share` is the share of traffic that was planned for it; `moments` has one value a conversation.
    """

    name: str
    digest: str
    share: float
    conversations: int
    observations: int
    moments: dict[str, Moments]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the arms may be compared. `problem` says why not, and is empty where they may.

    `log_mismatch` is the log e-value against the planned split; `crossed` counts conversations
    that both arms answered.
    """

    log_mismatch: float
    crossed: int
    problem: str


def look(store: Store, split: Split, policy: WatchPolicy, *, now: datetime) -> WatchVerdict:
    """The verdict on the candidate at this step, from everything settled by now; not recorded.

    Raises UserError where a signal can't be measured with the policy's options.
    """
    readers = [_reader(store, split, policy, arm) for arm in ("blessed", "candidate")]
    upto = _settled_until(store, split, now - timedelta(seconds=policy.settle_s))
    promoted, candidate = (
        _arm(reader, split, policy, name, upto)
        for reader, name in zip(readers, ("blessed", "candidate"), strict=True)
    )
    trust = _trust(store, split, (promoted, candidate), upto)
    signals = compare(promoted, candidate, policy, steps=split.compared)
    return WatchVerdict(
        watch_id=id_of("canary", split.canary, split.step, policy.digest, upto),
        kind="canary",
        line=split.line,
        model_digest=split.candidate,
        reference_digest=split.promoted,
        policy_digest=policy.digest,
        outcome="inconclusive" if trust.problem else overall(signals),
        observations=promoted.observations + candidate.observations,
        window_from=datetime.fromisoformat(split.at),
        window_to=now,
        signals=signals,
        state={},
        decided_at=now,
        detail={
            "canary": split.canary,
            "step": split.step,
            "share": split.share,
            "conversations": promoted.conversations + candidate.conversations,
            "blessed": promoted.conversations,
            "candidate": candidate.conversations,
            "mismatch": round(trust.log_mismatch, 3),
            "crossed": trust.crossed,
            "problem": trust.problem or None,
        },
    )


def compare(
    promoted: Arm, candidate: Arm, policy: WatchPolicy, *, steps: int, alpha: float = ALPHA
) -> tuple[SignalVerdict, ...]:
    """The verdict on every watched signal. `alpha` bounds the chance of a false FAIL over all
    signals that decide and all `steps` of the ramp.
    """
    names = [n for n in policy.watched() if n in promoted.moments and n in candidate.moments]
    roles = {n: _required(n, promoted.moments[n], candidate.moments[n], policy) for n in names}
    each = alpha / steps / max(1, sum(roles.values()))
    return tuple(
        _verdict(n, promoted.moments[n], candidate.moments[n], policy, each, required=roles[n])
        for n in names
    )


# The rest is private.


def _reader(store: Store, split: Split, policy: WatchPolicy, arm: str) -> Reader:
    """A reader of one arm's observations. Each must name its checkpoint, unless the arms are two
    lines: then only one checkpoint is behind each.
    """
    since = datetime.fromisoformat(split.at) if split.other else _NEVER
    if arm == "blessed":
        return Reader(store, Scope(split.line, split.promoted, since), policy)
    return Reader(store, Scope(split.other or split.line, split.candidate, since), policy)


def _settled_until(store: Store, split: Split, before: datetime) -> int:
    """The `seq` up to which everything was received by `before`.

    One place for both arms: with a place for each, the arm that waits less would count more
    conversations, and that would look like a mismatch.
    """
    rows = store.query(
        "SELECT coalesce(min(seq) FILTER (coalesce(received_at, observed_at) > ?) - 1, max(seq), 0)"
        " AS upto FROM observations WHERE seq > ?",
        [before, split.cursor],
    )
    return max(int(rows[0]["upto"]), split.cursor)


def _arm(reader: Reader, split: Split, policy: WatchPolicy, name: str, upto: int) -> Arm:
    moments = {n: Moments() for n in policy.watched()}
    conversations = observations = 0
    cursor = split.cursor
    for place in reader.chunks(cursor, upto):
        units = reader.read(cursor, place, {})
        conversations, cursor = conversations + len(units), place
        observations += units.observations
        for signal, values in units.values.items():
            moments[signal] += Moments.of(values[~np.isnan(values)])
    share = split.share if name == "candidate" else 1 - split.share
    digest = split.candidate if name == "candidate" else split.promoted
    return Arm(name, digest, share, conversations, observations, moments)


def _trust(store: Store, split: Split, arms: Sequence[Arm], upto: int) -> Trust:
    counts = [arm.conversations for arm in arms]
    log_e = log_mismatch(counts, [arm.share for arm in arms])
    crossed = store.query(
        "SELECT count(*) AS crossed FROM (SELECT conversation_id FROM observations "
        "WHERE seq > ? AND seq <= ? AND model_digest IN (?, ?) AND conversation_id IS NOT NULL "
        "GROUP BY conversation_id HAVING count(DISTINCT model_digest) > 1)",
        [split.cursor, upto, split.promoted, split.candidate],
    )[0]["crossed"]
    problem = ""
    if log_e >= math.log(1 / MISMATCH_ALPHA):
        meant = split.share * sum(counts)
        problem = (
            f"the candidate had {counts[1]:,} of {sum(counts):,} conversations where {meant:,.0f} "
            "were meant: users are lost or sent elsewhere on the way, and who is left can't be "
            "compared"
        )
    elif crossed > CROSSED * sum(counts):
        problem = f"{crossed:,} conversations were answered by both: split by conversation"
    return Trust(log_e, crossed, problem)


def _required(name: str, promoted: Moments, candidate: Moments, policy: WatchPolicy) -> bool:
    role = policy.role_of(name)
    return role == "required" or (role == "if measured" and promoted.n >= FEWEST)


def _verdict(
    name: str,
    promoted: Moments,
    candidate: Moments,
    policy: WatchPolicy,
    alpha: float,
    *,
    required: bool,
) -> SignalVerdict:
    signal = BY_NAME[name]
    known = bool(promoted.n and candidate.n)
    low, high = interval(candidate) if candidate.n else (None, None)
    fails, passes = None, None
    outcome: WatchOutcome = "inconclusive"
    if known:
        fails, failed = _limit(name, promoted, candidate, policy, alpha, worse=True)
        passes, passed = _limit(name, promoted, candidate, policy, ALPHA, worse=False)
        outcome = "fail" if failed else "pass" if passed else "inconclusive"
    verdict = SignalVerdict(
        signal=name,
        tier=signal.tier,
        outcome=outcome,
        value=candidate.mean,
        low=low,
        high=high,
        reference=fails,
        n=candidate.n,
        e_value=None,
        reason="",
        role="required" if required else "advisory",
        direction=signal.direction,
        pass_limit=passes,
    )
    return replace(verdict, reason=_reason(verdict, promoted))


def _limit(
    name: str,
    promoted: Moments,
    candidate: Moments,
    policy: WatchPolicy,
    alpha: float,
    *,
    worse: bool,
) -> tuple[float, bool]:
    """The limit for the candidate, and whether it is shown to be worse (without `worse`: within).

    Of each arm's interval only one end is used, each wrong with alpha/2: together they err at
    alpha.
    """
    # Both arms are uncertain. For FAIL the promoted one's limit comes from its worst plausible
    # value and must be missed by the candidate's best; for PASS it is the other way round.
    margin, floor = policy.margin_of(name), policy.floor_of(name)
    own, theirs = interval(candidate, alpha), interval(promoted, alpha)
    if BY_NAME[name].direction == "higher":
        limit = (1 - margin) * theirs[0 if worse else 1] - floor
        return limit, own[1] < limit if worse else own[0] >= limit
    limit = (1 + margin) * theirs[1 if worse else 0] + floor
    return limit, own[0] > limit if worse else own[1] <= limit


def _reason(verdict: SignalVerdict, promoted: Moments) -> str:
    if verdict.value is None or promoted.mean is None:
        return "not seen in both arms yet"
    beside = f"{verdict.value:.3f} beside {promoted.mean:.3f}"
    if verdict.outcome == "pass":
        return f"{beside}: within the margin"
    if verdict.outcome == "fail":
        return f"{beside}: worse than the margin allows"
    return f"{beside}: {verdict.n:,} conversations can't tell yet"
