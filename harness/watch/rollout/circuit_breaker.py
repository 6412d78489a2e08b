"""The circuit breaker: rolls back a served model that mostly fails, without waiting.

It is separate from the sequential evidence on purpose. That may be looked at any time and keeps its
rate of false alarms; this one counts errors in a short window, and promises only to be quick.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from harness.watch.intake.observation import CLOCK_TOLERANCE
from harness.watch.monitor.policy import BreakerPolicy
from harness.watch.monitor.verdict import SignalVerdict, WatchVerdict
from harness.watch.rollout.actions import id_of

if TYPE_CHECKING:
    from harness.registry.registry import Registry
    from harness.store.store import Store

SIGNAL = "errors_now"


def check_breaker(
    store: Store, registry: Registry, line: str, policy: BreakerPolicy | None, *, now: datetime
) -> WatchVerdict | None:
    """A verdict `fail`, recorded, where the breaker trips on what the line serves; else None.

    At most one an hour for each promoted version. Only what was answered since that version was
    promoted counts, and only what was observed and received within the window: logs of yesterday
    that are read in today trip nothing.
    """
    promoted = registry.promoted(line)
    if policy is None or promoted is None:
        return None
    # The pointer says whole seconds, and in this one the version before may still have answered.
    served_since = datetime.fromisoformat(promoted.at) + timedelta(seconds=1)
    since = max(now - timedelta(seconds=policy.window_s), served_since)
    verdict = trip(store, line, promoted.digest, policy, since=since, now=now)
    if verdict is not None:
        store.append("watch_verdicts", [verdict.row()])
    return verdict


def trip(
    store: Store,
    line: str,
    digest: str,
    policy: BreakerPolicy,
    *,
    since: datetime,
    now: datetime,
    every: bool = True,
) -> WatchVerdict | None:
    """A verdict `fail` on one checkpoint's answers since `since`, else None; nothing is recorded.

    `every` counts answers that name no checkpoint as well. It is False where two checkpoints
    serve the line, since such an answer may be of either.
    """
    requests, errors = _counts(store, line, digest, since, every=every)
    share = errors / requests if requests else 0.0
    if requests < policy.at_least or share < policy.errors:
        return None
    reason = (
        f"{errors} of {requests} requests failed within {policy.window_s:g} s, "
        f"and the breaker trips at {policy.errors:.0%}"
    )
    signal = SignalVerdict(
        signal=SIGNAL,
        tier="service",
        outcome="fail",
        value=share,
        low=None,
        high=None,
        reference=policy.errors,
        n=requests,
        e_value=None,
        reason=reason,
        direction="lower",
    )
    # Part of the id, so that a breaker which stays tripped counts and acts once an hour.
    hour = int(now.timestamp() // 3600)
    return WatchVerdict(
        watch_id=id_of("breaker", line, digest, hour),
        kind="breaker",
        line=line,
        model_digest=digest,
        reference_digest=None,
        policy_digest=None,
        outcome="fail",
        observations=requests,
        window_from=since,
        window_to=now,
        signals=(signal,),
        state={},
        decided_at=now,
        detail={"errors": errors},
    )


def _counts(
    store: Store, line: str, digest: str, since: datetime, *, every: bool
) -> tuple[int, int]:
    row = store.query(
        "SELECT count(*) AS requests, count(error) AS errors FROM observations "
        "WHERE received_at >= ? AND observed_at >= ? AND about IS NULL "
        "AND coalesce(line, ?) = ? AND (model_digest = ? OR (? AND model_digest IS NULL))",
        [since, since - CLOCK_TOLERANCE, line, line, digest, every],
    )[0]
    return row["requests"], row["errors"]
