"""Votes as preference data: a prompt, the chosen answer, the rejected one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.ratings.blinding import Texts, load_texts
from harness.ratings.session import Kind, Session, register
from harness.ratings.votes import Vote, plain, votes
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: a file of `pairs` lines, and how much was left out.

    even              pairs whose lead in votes is too small
    same_text         pairs of two equal answers
    duplicates        pairs that an earlier line has with the same words
    without_consent   votes of people who did not agree to the terms
    """

    path: Path
    pairs: int
    even: int
    same_text: int
    duplicates: int
    without_consent: int


def export(
    store: Store, session: Session, path: Path, *, kind: Kind = "human", least: int = 1
) -> Exported:
    """Write JSONL with `prompt`, `chosen`, `rejected`, as DPO and reward training read it.

    One line per two answers, by the majority of their plain votes, at least by `least` votes.
    `system` holds a system prompt where there is one, and `messages` the whole conversation where
    it is longer than one turn. Every line carries the session's licence and consent text. People's
    votes count only where they agreed to the terms. Raises UserError where nothing is left.
    """
    found = plain(votes(store, session, kind=kind))
    agreed = register(store, session).consented
    usable = [vote for vote in found if kind != "human" or vote.rater in agreed]
    rows, counts = _rows(session, usable, load_texts(store, session), kind, least)
    if not rows:
        raise UserError(
            f"no pair of session {session.id} has a preference to export",
            hint="collect votes first: `ratchet rate status` says how many there are",
        )
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    write_atomic(path, "\n".join(lines) + "\n")
    return Exported(path, len(rows), **counts, without_consent=len(found) - len(usable))


def _rows(
    session: Session, found: Sequence[Vote], texts: Texts, kind: Kind, least: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    tally: dict[tuple[str, str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for vote in found:
        first, second = sorted((vote.left_key, vote.right_key))
        tally[vote.task, vote.sample, first, second][vote.favours()] += 1
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    counts = {"even": 0, "same_text": 0, "duplicates": 0}
    for (task, sample, *keys), chosen in sorted(tally.items()):
        lead = chosen[keys[0]] - chosen[keys[1]]
        if abs(lead) < max(least, 1):
            counts["even"] += 1
            continue
        winner, loser = keys if lead > 0 else reversed(keys)
        good, bad = texts.answers[winner], texts.answers[loser]
        if good == bad:
            counts["same_text"] += 1
            continue
        row = {
            **_prompt(texts.prompts.get((task, sample), [])),
            "chosen": good,
            "rejected": bad,
            "votes": dict(sorted({"chosen": max(chosen[keys[0]], chosen[keys[1]]),
                                  "rejected": min(chosen[keys[0]], chosen[keys[1]]),
                                  "tie": chosen["tie"], "both_bad": chosen["both_bad"]}.items())),
            "rated_by": kind,
            "session": session.id,
            "task": task,
            "sample": sample,
            "licence": session.rules.licence,
            "consent": session.rules.consent,
        }  # fmt: skip
        low, high = sorted((good, bad))
        content = (json.dumps(row["messages"], ensure_ascii=False), low, high)
        if content in rows:
            counts["duplicates"] += 1
            continue
        rows[content] = row
    return list(rows.values()), counts


def _prompt(messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """`prompt` is the user's last turn. The system prompt and the whole conversation stand beside
    it: each column has one type in every row, as dataset loaders need.
    """
    turns = [dict(message) for message in messages]
    users = [turn["content"] for turn in turns if turn.get("role") == "user"]
    system = next((turn["content"] for turn in turns if turn.get("role") == "system"), "")
    return {"prompt": users[-1] if users else "", "system": system, "messages": turns}
