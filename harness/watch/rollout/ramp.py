"""Gives a candidate a growing share of traffic; each step must pass before the next.

The file of the split says which step holds; the table watch_actions records how it got there. A
step whose record was lost to a kill is recorded at the next look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.registry import lines
from harness.registry.events import who
from harness.watch.monitor.policy import DEFAULT_WATCH_POLICY, WatchPolicy
from harness.watch.rollout import traffic_split as splits
from harness.watch.rollout.actions import Action, id_of, record, tell, why
from harness.watch.rollout.canary import look
from harness.watch.rollout.circuit_breaker import trip
from harness.watch.rollout.traffic_split import RAMP, Split, check_ramp

if TYPE_CHECKING:
    from pathlib import Path

    from harness.registry.registry import Registry
    from harness.store.store import Store
    from harness.watch.monitor.verdict import WatchVerdict


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a look at a ramp led to. `verdict` is None where the step was not judged: the canary was
    over, or something else was promoted.
    """

    split: Split
    verdict: WatchVerdict | None
    action: Action


def current(store: Store, line: str) -> Split | None:
    """The line's split, also one that has ended; None where there never was one.

    Files that servers read and the record of the step are written again where they are missing.
    """
    folder = _folder(store, line)
    found = splits.read(folder)
    if found is not None:
        splits.follow(folder, found)
        record(store, _told(found, "as the split says", who()))
    return found


def begin(
    store: Store,
    registry: Registry,
    line: str,
    candidate: str,
    *,
    act: bool,
    other: str | None = None,
    ramp: tuple[float, ...] = RAMP,
    verdict_id: str | None = None,
    override: str | None = None,
    actor: str | None = None,
    now: datetime | None = None,
) -> tuple[Split, Action]:
    """Give `candidate`, a digest of the registry, the first share of the line's traffic.

    Without `act` only a record of what would be done is written. It needs a gate's verdict that is
    `pass`, or `override` with the reason, because the ramp's end promotes the candidate. Raises
    UserError where there is no such checkpoint, nothing to compare it with, or another canary
    runs on the line.
    """
    promoted = registry.promoted(line)
    running = current(store, line)
    digest = registry.path(candidate).name
    if promoted is None:
        raise UserError(
            f"nothing is promoted on {line} to compare it with",
            hint="`ratchet promote` promotes the first",
        )
    if digest == promoted.digest:
        raise UserError(
            f"{digest[:12]} is what {line} serves already", hint="name another checkpoint"
        )
    if running is not None and not running.ended:
        raise UserError(
            f"canary {running.canary} runs on {line} with {running.candidate[:12]}",
            hint=f"end it first: ratchet watch ramp {line} --abort --act",
        )
    verdict_id = verdict_id or registry.latest_verdict(digest)
    if not override:
        _require_pass(store, digest, verdict_id)
    moment = (now or datetime.now(UTC)).isoformat()
    split = Split(
        canary=id_of(line, promoted.number, digest, moment)[:8],
        line=line,
        promoted=promoted.digest,
        candidate=digest,
        other=other,
        ramp=check_ramp(ramp),
        step=0,
        cursor=_cursor(store),
        begun_at=moment,
        at=moment,
        verdict_id=verdict_id,
        override=override,
    )
    reason = f"{digest[:12]} gets {split.share:.2%} of {line}"
    return split, _do(store, split, reason, actor or who(), act=act)


def advance(
    store: Store,
    registry: Registry,
    line: str,
    policy: WatchPolicy = DEFAULT_WATCH_POLICY,
    *,
    act: bool,
    webhook: str | None = None,
    actor: str | None = None,
    now: datetime | None = None,
) -> Stepped:
    """Judge the step: take the next share after a pass, end the canary after a fail, else stay.

    After the last share below 1 the candidate is promoted, if the ramp ends with 1. Without `act`
    nothing is changed. A canary ends where something else was promoted meanwhile. Raises UserError
    where none ever began.
    """
    split = current(store, line)
    if split is None:
        raise UserError(
            f"no canary ever began on {line}", hint=f"ratchet watch canary {line} CANDIDATE"
        )
    actor, now = actor or who(), now or datetime.now(UTC)
    if split.ended:
        return Stepped(split, None, _stay(split, f"the canary is over: {split.ended}", actor))
    promoted = registry.promoted(line)
    if promoted is None or promoted.digest != split.promoted:
        arrived = promoted is not None and promoted.digest == split.candidate
        reason = "promoted" if arrived else "something else was promoted meanwhile"
        over = replace(split, ended=reason, at=now.isoformat())
        return Stepped(over, None, _do(store, over, reason, actor, act=act))
    verdict = _verdict(store, split, policy, now)
    if verdict.outcome == "inconclusive":
        reason = verdict.detail.get("problem") or "not everything is shown yet"
        return Stepped(split, verdict, _stay(split, str(reason), actor, verdict))
    return _step(store, registry, split, verdict, actor, now, act=act, webhook=webhook)


def abort(store: Store, line: str, *, act: bool, actor: str | None = None) -> Stepped:
    """Send all traffic to what is promoted. Raises UserError where no canary runs."""
    split = current(store, line)
    if split is None or split.ended:
        raise UserError(
            f"no canary runs on {line}", hint=f"ratchet watch canary {line} CANDIDATE begins one"
        )
    over = replace(split, ended="aborted", at=datetime.now(UTC).isoformat())
    return Stepped(over, None, _do(store, over, "aborted", actor or who(), act=act))


# The rest is private.


def _verdict(store: Store, split: Split, policy: WatchPolicy, now: datetime) -> WatchVerdict:
    """The breaker's where it trips on the candidate, else that of the step; recorded."""
    found = None
    if policy.breaker:
        since = datetime.fromisoformat(split.at)
        since = max(since, now - timedelta(seconds=policy.breaker.window_s))
        found = trip(
            store,
            split.other or split.line,
            split.candidate,
            policy.breaker,
            since=since,
            now=now,
            every=split.other is not None,
        )
    found = found or look(store, split, policy, now=now)
    store.append("watch_verdicts", [found.row()])
    return found


def _step(
    store: Store,
    registry: Registry,
    split: Split,
    verdict: WatchVerdict,
    actor: str,
    now: datetime,
    *,
    act: bool,
    webhook: str | None,
) -> Stepped:
    moment = now.isoformat()
    if verdict.outcome == "fail":
        after, reason = replace(split, ended="failed", at=moment), why(verdict)
    elif split.step + 1 == len(split.ramp):
        stay = f"the last step passed: `ratchet promote {split.candidate[:12]}` is up to you"
        return Stepped(split, verdict, _stay(split, stay, actor, verdict))
    elif split.ramp[split.step + 1] < 1:
        after = replace(split, step=split.step + 1, cursor=_cursor(store), at=moment)
        reason = f"{split.share:.2%} passed: {after.share:.2%} from now on"
    else:
        after = replace(split, ended="promoted", at=moment)
        reason = f"{split.share:.2%} passed, the last step: promoted"
        if act:
            # Promoted first, the split ended after: killed in between, the next look finds the
            # candidate promoted and ends the canary as such.
            registry.promote(
                split.line,
                split.candidate,
                verdict_id=split.verdict_id,
                override=split.override,
                actor=actor,
                reason=f"canary {split.canary} passed every step",
                expect=split.promoted,
            )
    action = _do(store, after, reason, actor, act=act, verdict=verdict)
    if webhook is not None:
        tell(store, action, webhook, {"canary": split.canary, "share": after.share})
    return Stepped(after, verdict, action)


def _do(
    store: Store,
    split: Split,
    reason: str,
    actor: str,
    *,
    act: bool,
    verdict: WatchVerdict | None = None,
) -> Action:
    """Write the split and record it; without `act` record what would be written."""
    if act:
        splits.write(_folder(store, split.line), split)
    return record(store, _told(split, reason, actor, verdict, acted=act))


def _told(
    split: Split,
    reason: str,
    actor: str,
    verdict: WatchVerdict | None = None,
    *,
    acted: bool = True,
) -> Action:
    detail: dict[str, Any] = {
        "canary": split.canary,
        "step": split.step,
        "share": split.share,
        "ended": split.ended,
    }
    failed = split.ended not in (None, "promoted")
    served, gets = split.promoted, split.candidate
    return Action(
        action_id=id_of("ramp", split.canary, split.step, split.ended, acted),
        watch_id=verdict.watch_id if verdict else None,
        line=split.line,
        action="rolled_back" if failed else "ramped",
        acted=acted,
        from_digest=gets if failed else served,
        to_digest=served if failed else gets,
        actor=actor,
        reason=reason,
        detail=detail,
    )


def _stay(split: Split, reason: str, actor: str, verdict: WatchVerdict | None = None) -> Action:
    """The action of a look that changes nothing; it is not recorded."""
    told = _told(split, reason, actor, verdict, acted=False)
    return replace(told, action_id="", action="held")


def _require_pass(store: Store, digest: str, verdict_id: str | None) -> None:
    """Raise UserError unless the gate's verdict lets the candidate be promoted.

    The promotion at the ramp's end asks for the same; asked here, before any user gets an answer.
    """
    rows = store.query(
        "SELECT outcome, detail FROM verdicts WHERE verdict_id = ?", [verdict_id or ""]
    )
    passed = [r for r in rows if r["outcome"] == "pass" or (r["detail"] or {}).get("promotable")]
    if not passed:
        raise UserError(
            f"the gate has not passed {digest[:12]}",
            hint='run `ratchet gate` first, or say why not with --override "reason"',
        )


def _folder(store: Store, line: str) -> Path:
    return store.workspace.lines / lines.check_name(line)


def _cursor(store: Store) -> int:
    """`seq` of the last observation so far. A step counts only later ones: those before it were
    split by another share.
    """
    return int(store.query("SELECT coalesce(max(seq), 0) AS seq FROM observations")[0]["seq"])
