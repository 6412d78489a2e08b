"""What a rater is shown: two answers with their sides, or one answer to be graded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.ratings.model_raters import pair_id
from harness.ratings.session import Session


@dataclass(frozen=True, slots=True)
class PairCard:
    """Two answers with their sides. `pair` is `item.i.j` or `gold.n`; keys name responses; models
    are digests, empty for gold.
    """

    pair: str
    purpose: str
    task: str
    sample: str
    left_key: str
    right_key: str
    left_model: str
    right_model: str

    def row(self) -> dict[str, Any]:
        """The columns of the votes table that say what was shown."""
        return {
            "pair_id": self.pair,
            "purpose": self.purpose,
            "task": self.task,
            "sample_id": self.sample,
            "left_key": self.left_key,
            "right_key": self.right_key,
            "left_model": self.left_model,
            "right_model": self.right_model,
        }


@dataclass(frozen=True, slots=True)
class AnswerCard:
    """One answer: item `index` as contender `model` answered it."""

    index: int
    model: int
    task: str
    sample: str
    key: str

    @property
    def name(self) -> str:
        return f"{self.index}.{self.model}"


@dataclass
class Sheet:
    """One rater's sequence of answers in one form.

    serial   the next answer's place: how many there were, undone ones and undos included
    live     what counts, by id, in order
    undone   what was taken back and waits to be shown again, the last on top
    """

    serial: int = 0
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    undone: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any] | None:
        return next(reversed(self.live.values()), None)

    @property
    def last_given(self) -> dict[str, Any] | None:
        """The last one that the rater gave; equal answers are counted as ties without asking."""
        given = (row for row in reversed(self.live.values()) if row["dwell_ms"] is not None)
        return next(given, None)

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.serial += 1
        self.live[key] = row
        shown = (row.get("pair_id") or row.get("key"), row.get("purpose"))
        self.undone = [
            old
            for old in self.undone
            if (old.get("pair_id") or old.get("key"), old.get("purpose")) != shown
        ]

    def take_back(self, key: str) -> dict[str, Any] | None:
        """The row that no longer counts; None where there is none of that id."""
        self.serial += 1
        row = self.live.pop(key, None)
        if row is not None:
            self.undone.append(row)
        return row


def pair_card(session: Session, rater: str, pair: str, purpose: str) -> PairCard:
    """The card of a pair for this rater: always the same sides, except in a swapped repeat."""
    first_left = session.first_is_left(rater, pair) != (purpose == "swapped")
    head, *rest = pair.split(".")
    if head == "gold":
        keys = session.golds[int(rest[0])].keys
        left, right = keys if first_left else keys[::-1]
        return PairCard(pair, purpose, "gold", rest[0], left, right, "", "")
    item, (i, j) = session.items[int(head)], (int(rest[0]), int(rest[1]))
    left_of, right_of = (i, j) if first_left else (j, i)
    return PairCard(
        pair,
        purpose,
        item.task,
        item.sample,
        item.keys[left_of],
        item.keys[right_of],
        session.contenders[left_of].digest,
        session.contenders[right_of].digest,
    )


def answer_cards(session: Session) -> Iterator[AnswerCard]:
    """Every answer of the session, as something to grade."""
    for index, item in enumerate(session.items):
        for model, key in enumerate(item.keys):
            yield AnswerCard(index, model, item.task, item.sample, key)


def every_pair(session: Session) -> Iterator[tuple[str, str]]:
    """Every (pair, purpose) that could ever be shown."""
    for index in range(len(session.items)):
        for i, j in session.design.comparisons:
            for purpose in ("plain", "repeat", "swapped"):
                yield pair_id(index, i, j), purpose
    for number in range(len(session.golds)):
        yield f"gold.{number}", "gold"
