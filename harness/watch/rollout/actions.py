"""What follows from a watch verdict: the line is rolled back, and someone is notified.

A roll back carries the verdict's id in its reason. Where the process is killed before the action is
recorded, the next call with the same verdict finds it in the line's history and records it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from harness.core import webhook as post
from harness.core.errors import UserError
from harness.registry import lines
from harness.registry.events import who

if TYPE_CHECKING:
    from harness.registry.lines import PromotedVersion
    from harness.registry.registry import Registry
    from harness.store.store import Store
    from harness.watch.monitor.verdict import WatchVerdict

Did = Literal["rolled_back", "ramped", "held", "told"]

COOLDOWN_S = 3_600.0
"""Seconds after a roll back in which the line is not rolled back again: two versions in a row that
fail within the hour point at what they share, the server and its users, and not at the model."""


@dataclass(frozen=True, slots=True)
class Action:
    """What was done, or would have been: one row of watch_actions.

    `acted` is false where nothing was changed. An empty `action_id` means that there was nothing
    to do and nothing was recorded. Of one id only the first row counts, so recording twice is
    harmless.
    """

    action_id: str
    watch_id: str | None
    line: str
    action: Did
    acted: bool
    from_digest: str | None
    to_digest: str | None
    actor: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    happened_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"detail": dict(self.detail)}


def act(
    verdict: WatchVerdict,
    registry: Registry,
    store: Store,
    *,
    act: bool,
    webhook: str | None = None,
    actor: str | None = None,
    cooldown_s: float = COOLDOWN_S,
) -> Action:
    """Roll a line back to the version before, where the verdict on what it serves is `fail`.

    Without `act` nothing is changed; what would be is recorded and sent to `webhook`. The line is
    left alone, and the reason recorded, where something else is promoted by now, where there is
    no sound version before, and within `cooldown_s` seconds of the last time. The same verdict
    rolls back once, however often it is acted on. `webhook` gets one POST an action; where that
    fails, the next call sends it again. Raises UserError where the store or the registry can't be
    read or written.
    """
    actor = actor or who()
    if verdict.outcome != "fail":
        reason = f"the verdict is {verdict.outcome}: there is nothing to roll back"
        promoted = registry.promoted(verdict.line)
        digest = promoted.digest if promoted else None
        return Action(
            "", verdict.watch_id, verdict.line, "held", False, digest, digest, actor, reason
        )
    action = _done(verdict, registry, actor)
    if action is None:
        action = _take_back(verdict, registry, actor, cooldown_s, act=act)
    action = record(store, action)
    if webhook is not None:
        tell(store, action, webhook, {"signals": [s.signal for s in verdict.failing()]})
    return action


def why(verdict: WatchVerdict) -> str:
    """A sentence for the record: the first three signals that failed, and how."""
    failed = verdict.failing()
    said = "; ".join(f"{signal.signal}: {signal.reason}" for signal in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return said + more or f"the {verdict.kind} failed"


def actions(store: Store, line: str, limit: int = 50) -> list[dict[str, Any]]:
    """The last actions about a line, the newest first."""
    return store.query(
        "SELECT * FROM watch_actions WHERE line = ? ORDER BY seq DESC LIMIT ?", [line, limit]
    )


def id_of(*parts: Any) -> str:
    """A digest of the parts, 16 hexadecimal digits: the same act has the same id."""
    canonical = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def record(store: Store, action: Action) -> Action:
    """Append the action unless one of its id is there; returns the first one of that id."""
    columns = ", ".join(action.row())
    found = f"SELECT {columns} FROM watch_actions WHERE action_id = ? LIMIT 1"
    rows = store.query(found, [action.action_id])
    if rows:
        return Action(**rows[0])
    store.append("watch_actions", [action.row()])
    return action


def tell(store: Store, action: Action, url: str, extra: Mapping[str, Any]) -> str | None:
    """POST an action to `url` unless that was done before. Returns why it failed, or None.

    The receiver may get an action twice, where the process is killed between the answer and its
    record; `action_id` is then the same.
    """
    told = f"{action.action_id}-told"
    if store.query("SELECT 1 FROM watch_actions WHERE action_id = ? LIMIT 1", [told]):
        return None
    message = action.row() | {"event": f"watch_{action.action}", **extra}
    message["happened_at"] = action.happened_at.isoformat()
    problem = post.call(url, message, sentence(action, extra))
    # Only the host is recorded: the rest of the address may hold a secret.
    host = urlsplit(post.split(url)[1]).hostname
    action_id = told if problem is None else f"{told}-failed-{datetime.now(UTC).timestamp():.6f}"
    row = {
        "action_id": action_id,
        "watch_id": action.watch_id,
        "line": action.line,
        "action": "told",
        "acted": problem is None,
        "actor": action.actor,
        "reason": problem or f"{host} was notified",
        "detail": {"host": host, "of": action.action_id},
    }
    store.append("watch_actions", [row])
    return problem


def sentence(action: Action, extra: Mapping[str, Any]) -> str:
    """What an action was about, as somebody who is woken by it must read it."""
    signals = ", ".join(extra.get("signals") or ())
    failed = f" ({signals})" if signals else ""
    source, to = (action.from_digest or "")[:12], (action.to_digest or "")[:12]
    match action.action, action.acted:
        case "held", _:
            said = f"what is served fails{failed}, and nothing could be done: {action.reason}"
        case "rolled_back", True:
            said = f"{source} failed{failed} and was taken back; {to} serves again"
        case "rolled_back", False:
            said = f"{source} fails{failed}; nothing was changed. --act would go back to {to}"
        case _:
            said = action.reason if action.acted else f"nothing was changed: {action.reason}"
    return f"Ratchet: {action.line}: {said}"


# The rest is private.


def _done(verdict: WatchVerdict, registry: Registry, actor: str) -> Action | None:
    """The roll back that this verdict led to already, from the line's history; None for none."""
    history = registry.history(verdict.line)
    for before, version in pairwise(history):
        if version.event == "rolled_back" and (version.reason or "").startswith(_tag(verdict)):
            return _action(
                verdict, "rolled_back", True, version.actor, why(verdict), before, version
            )
    return None


def _take_back(
    verdict: WatchVerdict, registry: Registry, actor: str, cooldown_s: float, *, act: bool
) -> Action:
    history = registry.history(verdict.line)
    now = history[-1] if history else None
    obstacle = _obstacle(verdict, history, cooldown_s)
    if obstacle or now is None:
        # The obstacle may be this very verdict, acted on by another since we looked.
        return _done(verdict, registry, actor) or _action(
            verdict, "held", False, actor, obstacle, now, now
        )
    if not act:
        target = lines.earlier(history, verdict.line)
        return _action(verdict, "rolled_back", False, actor, why(verdict), now, target)
    try:
        promoted = registry.rollback(
            verdict.line, actor=actor, reason=f"{_tag(verdict)} {why(verdict)}", expect=now.digest
        )
    except UserError as error:
        # Somebody else was quicker, perhaps with this very verdict, or the version is broken.
        return _done(verdict, registry, actor) or _action(
            verdict, "held", False, actor, error.what, now, registry.promoted(verdict.line)
        )
    return _action(verdict, "rolled_back", True, actor, why(verdict), now, promoted)


def _obstacle(verdict: WatchVerdict, history: list[PromotedVersion], cooldown_s: float) -> str:
    """Why the line must be left alone, or nothing."""
    if not history:
        return f"nothing was ever promoted on {verdict.line}"
    now = history[-1]
    since = datetime.fromisoformat(now.at)
    if verdict.model_digest is not None and now.digest != verdict.model_digest:
        judged = verdict.model_digest[:12]
        return f"{now.digest[:12]} is promoted by now, and {judged} was judged"
    if since > verdict.decided_at:
        return f"{now.digest[:12]} was promoted again after this was decided"
    failed = [signal.failed_at for signal in verdict.failing()]
    if failed and all(moment is not None and moment < since for moment in failed):
        return f"{now.digest[:12]} was promoted again after it failed, and has not failed since"
    if now.previous is None:
        return f"{now.digest[:12]} has no version before it to go back to"
    age = verdict.decided_at - since
    taken_back = now.event == "rolled_back" and (now.reason or "").startswith("watch ")
    if taken_back and age < timedelta(seconds=cooldown_s):
        return (
            f"{now.digest[:12]} was itself restored within the last {cooldown_s / 60:.0f} min: "
            "check the server and the requests before the model"
        )
    return ""


def _tag(verdict: WatchVerdict) -> str:
    return f"watch {verdict.watch_id}:"


def _action(
    verdict: WatchVerdict,
    action: Did,
    acted: bool,
    actor: str,
    reason: str,
    source: PromotedVersion | None,
    target: PromotedVersion | None,
) -> Action:
    # What was only proposed has an id without the verdict's, which is new at every look: a check
    # that runs every minute records and sends it once for each version, not every minute.
    subject = [verdict.kind, source.number if source else 0, reason if action == "held" else ""]
    return Action(
        action_id=id_of(verdict.line, action, verdict.watch_id if acted else subject),
        watch_id=verdict.watch_id,
        line=verdict.line,
        action=action,
        acted=acted,
        from_digest=source.digest if source else None,
        to_digest=target.digest if target else None,
        actor=actor,
        reason=reason,
        detail={
            "kind": verdict.kind,
            "from_version": source.number if source else None,
            "to_version": target.number if target else None,
        },
    )
