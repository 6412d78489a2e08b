"""Models as raters: they vote in the same tables, marked as models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from harness.core.errors import UserError
from harness.ratings.blinding import load_texts
from harness.ratings.items import Item
from harness.ratings.session import CHOICES, Session
from harness.store.store import Store

Question = tuple[str, str, str]
"""The prompt, the left answer, the right answer."""

Ask = Callable[[Sequence[Question]], Sequence[str | None]]
"""Judges questions: for each one of `CHOICES`, or None where the judge gave no verdict."""


def pair_id(index: int, i: int, j: int) -> str:
    """The name of a pair: item `index` with the answers of contenders i and j."""
    return f"{index}.{i}.{j}"


def vote_as_judge(
    store: Store,
    session: Session,
    name: str,
    kind: Literal["reward_model", "llm"],
    ask: Ask,
    *,
    limit: int | None = None,
) -> int:
    """Let a judge vote on the session's pairs that it has not judged, against the anchor first.

    The votes carry the judge's name and kind; whatever counts people's votes leaves them out.
    Running it again adds nothing. Returns the number of new votes; raises UserError where the
    judge's name is a person's.
    """
    people = store.query(
        "SELECT 1 FROM votes WHERE session_id = ? AND rater = ? AND rater_kind <> ? LIMIT 1",
        [session.id, name, kind],
    )
    if people:
        raise UserError(
            f"{name!r} has votes in this session already, as a rater of another kind",
            field="name",
            hint="give the judge another name",
        )
    rows = _todo(store, session, name, kind)[:limit]
    texts = load_texts(store, session)
    questions = [
        (
            "\n\n".join(
                turn["content"]
                for turn in texts.prompts.get((row["task"], row["sample_id"]), [])
                if turn.get("role") != "system"
            ),
            texts.answers[row["left_key"]],
            texts.answers[row["right_key"]],
        )
        for row in rows
    ]
    chosen = ask(questions) if rows else []
    given = [{**row, "choice": choice} for row, choice in zip(rows, chosen, strict=True) if choice]
    stray = next((row["choice"] for row in given if row["choice"] not in CHOICES), None)
    if stray is not None:
        raise UserError(f"the judge answered {stray!r}", hint=f"one of {', '.join(CHOICES)}")
    store.append("votes", given)
    return len(given)


def _todo(store: Store, session: Session, name: str, kind: str) -> list[dict[str, Any]]:
    known = {
        row["vote_id"]
        for row in store.query(
            "SELECT vote_id FROM votes WHERE session_id = ? AND rater = ?", [session.id, name]
        )
    }
    rows = [
        _row(session, index, item, comparison, name, kind)
        for comparison in session.design.comparisons
        for index, item in enumerate(session.items)
    ]
    return [row for row in rows if row["vote_id"] not in known]


def _row(
    session: Session, index: int, item: Item, comparison: tuple[int, int], name: str, kind: str
) -> dict[str, Any]:
    pair = pair_id(index, *comparison)
    sides = comparison if session.first_is_left(name, pair) else comparison[::-1]
    # The id follows from judge and pair, so that judging again adds nothing.
    digest = hashlib.blake2b(f"{session.id}|{name}|{kind}|{pair}".encode(), digest_size=16)
    return {
        "vote_id": digest.hexdigest(),
        "session_id": session.id,
        "rater": name,
        "rater_kind": kind,
        "pair_id": pair,
        "purpose": "plain",
        "task": item.task,
        "sample_id": item.sample,
        "left_key": item.keys[sides[0]],
        "right_key": item.keys[sides[1]],
        "left_model": session.contenders[sides[0]].digest,
        "right_model": session.contenders[sides[1]].digest,
        "dimension": "preference",
    }
