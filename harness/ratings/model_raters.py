"""Models as raters: they vote in the same tables, marked as models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.evaluation import open_model as models
from harness.metrics.judge import judge
from harness.metrics.reward_model import rewards_of_whole
from harness.metrics.support.encoders import described, require
from harness.metrics.support.silence import says_nothing
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


def judged_by(
    store: Store,
    session: Session,
    model: str,
    *,
    reward: bool = False,
    limit: int | None = None,
) -> tuple[str, int]:
    """Let `model` vote: a language model, asked in both orders, or with `reward` a reward model.

    Returns the judge's name and the number of its new votes. A reward model's name holds its
    folder's digest, so that other weights at the same place are another judge.
    """
    if reward:
        require(model)
        name = described(model)
        return name, vote_as_judge(
            store, session, name, "reward_model", by_reward(model), limit=limit
        )
    candidate = models.open_model(model, Workspace.at(), store)

    def ask(questions: Sequence[Question]) -> list[str | None]:
        asked, lefts, rights = zip(*questions, strict=True)
        return [one.choice for one in judge(asked, lefts, rights, backend=candidate.open())]

    count = vote_as_judge(store, session, candidate.name, "llm", ask, limit=limit)
    return candidate.name, count


def by_reward(model: str) -> Ask:
    """Choose by a reward model: the answer with the higher reward, a tie where they are equal.

    An answer that says nothing has lost, for a reward has no worst value; two of them are a tie. No
    vote where a conversation is longer than the model reads. Raises UserError for a model with more
    than one output.
    """

    def ask(questions: Sequence[Question]) -> list[str | None]:
        asked = [[{"role": "user", "content": question}] for question, _, _ in questions]
        sides = [
            rewards_of_whole(asked, [question[side] for question in questions], model=model)
            for side in (1, 2)
        ]
        return [
            _preferred(question[1:], rewards)
            for question, rewards in zip(questions, zip(*sides, strict=True), strict=True)
        ]

    return ask


def _preferred(answers: tuple[str, ...], rewards: tuple[float | None, float | None]) -> str | None:
    silent = [says_nothing(answer) for answer in answers]
    if any(silent):
        return "tie" if all(silent) else ("right" if silent[0] else "left")
    left, right = rewards
    if left is None or right is None:
        return None
    return "tie" if left == right else ("left" if left > right else "right")


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
