"""A training as a tree: its checkpoints, what became of each, and where it was rolled back to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.types import Row
from harness.store.store import Store

CHECKPOINTS = 2_000
"""Events of which a tree is made at most, the newest."""

_WORST = ("fail", "incomparable", "inconclusive", "pass", "none")


@dataclass(slots=True)
class Checkpoint:
    """One checkpoint and what became of it.

    parent      its place in the list of checkpoints; None for the first
    outcome     the worst of its verdicts, `none` before the first; `verdict_id` is that verdict
    best        it became the best checkpoint; `held`: nothing was shown of it, training went on
    abandoned   the training went back before it
    offered     it is in the registry; `versions`: of which lines it was promoted to what version
    """

    step: int
    attempt: int
    parent: int | None
    outcome: str = "none"
    verdict_id: str | None = None
    best: bool = False
    held: bool = False
    abandoned: bool = False
    offered: bool = False
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollback:
    """From which checkpoint (its place) back to which, by which remedy, on which verdict."""

    failed: int
    to: int
    remedy: str
    verdict_id: str | None


@dataclass(frozen=True, slots=True)
class Tree:
    """The checkpoints in the order in which they were made, and the roll backs."""

    checkpoints: Sequence[Checkpoint]
    rollbacks: Sequence[Rollback]

    @property
    def attempts(self) -> list[int]:
        return sorted({checkpoint.attempt for checkpoint in self.checkpoints})


def tree(store: Store, training_id: str) -> Tree:
    """The tree of one training, with what the registry knows of its checkpoints."""
    events = store.query(
        "SELECT event, step, attempt, detail FROM ("
        "SELECT * FROM training_events WHERE training_id = ? AND event IN ('checkpoint', "
        "'verdict', 'crest', 'held', 'rolled_back', 'promoted') "
        f"ORDER BY seq DESC LIMIT {CHECKPOINTS}) ORDER BY seq",
        [training_id],
    )
    outcomes = {
        row["verdict_id"]: row["outcome"]
        for row in store.query(
            "SELECT verdict_id, outcome FROM verdicts WHERE training_id = ?", [training_id]
        )
    }
    registered = store.query(
        "SELECT own.step, c.event, c.line, "
        "try_cast(c.detail ->> '$.version' AS INTEGER) AS version "
        "FROM checkpoints c JOIN (SELECT DISTINCT digest, step FROM checkpoints "
        "WHERE training_id = ? AND event = 'added') own USING (digest) "
        "WHERE c.event IN ('added', 'promoted') ORDER BY c.seq",
        [training_id],
    )
    return grown(events, outcomes, registered)


def grown(
    events: Iterable[Row], outcomes: Mapping[str, str], registered: Iterable[Row] = ()
) -> Tree:
    """The tree that these events tell of, oldest first. `outcomes` is verdict id -> outcome."""
    found: list[Checkpoint] = []
    backs: list[Rollback] = []
    tip: int | None = None
    for event in events:
        step, attempt, detail = event["step"], event["attempt"] or 0, event["detail"] or {}
        at = _place(found, step, attempt)
        match event["event"]:
            case "checkpoint":
                if at is None:
                    found.append(Checkpoint(step, attempt, tip))
                    at = len(found) - 1
                tip = at
            case "verdict" if at is not None:
                _judge(found[at], detail.get("verdict_id"), detail.get("outcome") or "none")
            case "crest" if at is not None:
                found[at].best = True
            case "held" if at is not None:
                found[at].held = True
            case "rolled_back":
                to = detail.get("to") or 0
                tip = _live(found, to)
                failed = at if at is not None else len(found) - 1
                for checkpoint in found:
                    checkpoint.abandoned |= checkpoint.step > to and checkpoint.attempt <= attempt
                if tip is not None and failed >= 0:
                    why = failing(detail.get("verdicts") or (), outcomes)
                    backs.append(Rollback(failed, tip, str(detail.get("remedy") or ""), why))
    _register(found, registered)
    return Tree(found, backs)


def failing(verdicts: Sequence[str], outcomes: Mapping[str, str]) -> str | None:
    """The verdict that a roll back stands on: the one that failed, not merely the first."""
    ranked = sorted(verdicts, key=lambda name: _WORST.index(outcomes.get(name, "none")))
    return ranked[0] if ranked else None


def _judge(checkpoint: Checkpoint, verdict_id: str | None, outcome: str) -> None:
    if _WORST.index(outcome) <= _WORST.index(checkpoint.outcome):
        checkpoint.outcome, checkpoint.verdict_id = outcome, verdict_id


def _place(found: Sequence[Checkpoint], step: Any, attempt: int) -> int | None:
    """The newest checkpoint of that step and attempt; where no attempt has it, of that step."""
    places = [place for place, one in enumerate(found) if one.step == step]
    own = [place for place in places if found[place].attempt == attempt]
    return own[-1] if own else None


def _live(found: Sequence[Checkpoint], step: int) -> int | None:
    """The checkpoint of a step that the training goes on from."""
    places = [place for place, one in enumerate(found) if one.step == step and not one.abandoned]
    return places[-1] if places else None


def _register(found: Sequence[Checkpoint], registered: Iterable[Row]) -> None:
    for row in registered:
        own = [one for one in found if one.step == row["step"] and not one.abandoned]
        if not own:
            continue
        own[-1].offered = True
        if row["event"] == "promoted":
            own[-1].versions = (*own[-1].versions, f"{row['line']} v{row['version'] or '?'}")
