"""The queue of the questionnaire and of the stars: one answer at a time, graded by dimension."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from dashboard.rating.formatted import formatted
from dashboard.rating.items import AnswerCard, Sheet, answer_cards
from dashboard.rating.keys import Ticket, read_ticket, reference, sign_ticket
from dashboard.rating.pair_queue import MAX_COMMENT, PairQueue, Rejected, State

STARS = ("stars",)


def bounds(dimension: str) -> tuple[int, int]:
    """The smallest and the largest grade of a dimension, both allowed."""
    return {"safety": (0, 1), "stars": (1, 5)}.get(dimension, (0, 5))


class GradeQueue:
    """The queue of one form, questions or stars, of one session.

    It shares texts, register and store with the session's queue of pairs.
    """

    def __init__(self, queue: PairQueue, form: Literal["questions", "stars"]) -> None:
        self.queue, self.form = queue, form
        self.dimensions = STARS if form == "stars" else queue.session.rules.dimensions
        self.cards = {card.name: card for card in answer_cards(queue.session)}
        self.lock = threading.Lock()
        self.sheets: dict[str, Sheet] = {}
        self._load()

    def state(self, rater: str) -> State:
        """The answer in front of this rater, and the progress of each dimension. JSON types."""
        with self.lock:
            return self._state(rater)

    def answer(
        self,
        rater: str,
        ticket_text: str,
        values: Mapping[str, Any],
        comment: str,
        dwell_ms: float,
    ) -> State:
        """Take in one graded answer: a value for every dimension, or none at all to skip it.

        A ticket that was used already changes nothing. Raises Rejected.
        """
        queue = self.queue
        ticket = read_ticket(queue.key, rater, ticket_text)
        if ticket is None or ticket.form != self.form:
            raise Rejected("invalid")
        with self.lock:
            sheet = self._sheet(rater)
            if ticket.serial < sheet.serial:
                return self._state(rater) | {"already": True}
            card = self._shown(rater, ticket)
            if card is None or ticket.serial > sheet.serial or not self._valid(values):
                raise Rejected("invalid")
            dwell = min(float(dwell_ms), queue.clock() * 1000 - ticket.issued_ms)
            if values and dwell < queue.session.rules.min_dwell_ms:
                raise Rejected("too_soon")
            rows = self._rows(rater, sheet.serial, card, values, comment, max(dwell, 0.0))
            queue.store.append("questionnaires", rows)
            self._take_in(rater, rows)
            return self._state(rater)

    def undo(self, rater: str, name: str) -> State:
        """Take back the rater's last answer, if it is that one."""
        with self.lock:
            sheet = self._sheet(rater)
            last = sheet.last
            if last is None or last["name"] != name:
                return self._state(rater) | {"already": True}
            rows = [
                {
                    **{n: row[n] for n in ("key", "task", "sample_id", "dimension")},
                    **self._whose(rater),
                    "answer_id": self._id(rater, sheet.serial, row["dimension"]),
                    "undoes": row["answer_id"],
                }
                for row in last["rows"]
            ]
            self.queue.store.append("questionnaires", rows)
            sheet.take_back(name)
            return self._state(rater)

    def _state(self, rater: str) -> State:
        queue, sheet = self.queue, self._sheet(rater)
        counts, graded = self._counts()
        closed = queue.register.closed or rater in queue.register.excluded
        target = queue.session.rules.target
        full = all(counts[d] >= target for d in self.dimensions)
        card = None if closed or full else self._next(rater, sheet, graded)
        mine = sum(bool(entry["valued"]) for entry in sheet.live.values())
        last = sheet.last
        state: State = {
            "form": self.form,
            "done": "closed" if closed else "budget" if full else None if card else "seen",
            "progress": {
                "mine": mine,
                "share": -(-target // max(1, len(queue.register.raters))),
                "total": min((counts[d] for d in self.dimensions), default=0),
                "target": target,
                "dimensions": {d: counts[d] for d in self.dimensions},
            },
            "last": None if last is None else {"id": last["name"], "choice": "graded"},
            "dimensions": [[d, *bounds(d)] for d in self.dimensions],
        }
        if card is not None:
            ref = reference(queue.key, queue.session.id, rater, self.form, card.name)
            ticket = Ticket(self.form, sheet.serial, int(queue.clock() * 1000), ref)
            text = queue.answers.get(card.key, "")
            state |= {
                "ticket": sign_ticket(queue.key, rater, ticket),
                "prompt": [
                    {**turn, "tree": formatted(turn["text"])}
                    for turn in queue.prompts.get((card.task, card.sample), [])
                ],
                "answer": text,
                "trees": {"answer": formatted(text)},
            }
        return state

    def _next(self, rater: str, sheet: Sheet, graded: Counter[str]) -> AnswerCard | None:
        """The answer with the fewest grades that this rater has not seen.

        Ties are broken in an order that is random and each rater's own.
        """
        if sheet.undone:
            return self.cards[sheet.undone[-1]["card"]]
        seen = {entry["card"] for entry in sheet.live.values()}
        chance = self.queue.session.chance
        return min(
            (card for card in self.cards.values() if card.name not in seen),
            key=lambda card: (graded[card.name], chance(self.form, rater, card.name)),
            default=None,
        )

    def _counts(self) -> tuple[Counter[str], Counter[str]]:
        """Answers by dimension, and grades by card, of raters who are not excluded."""
        by_dimension: Counter[str] = Counter()
        by_card: Counter[str] = Counter()
        for rater, sheet in self.sheets.items():
            if rater in self.queue.register.excluded:
                continue
            for entry in sheet.live.values():
                if entry["valued"]:
                    by_card[entry["card"]] += 1
                    by_dimension.update(row["dimension"] for row in entry["rows"])
        return by_dimension, by_card

    def _valid(self, values: Mapping[str, Any]) -> bool:
        if not values:
            return True
        return set(values) == set(self.dimensions) and all(
            type(value) is int and bounds(name)[0] <= value <= bounds(name)[1]
            for name, value in values.items()
        )

    def _rows(
        self,
        rater: str,
        serial: int,
        card: AnswerCard,
        values: Mapping[str, Any],
        comment: str,
        dwell: float,
    ) -> list[dict[str, Any]]:
        words = comment.strip()[:MAX_COMMENT] or None
        shown = {"key": card.key, "task": card.task, "sample_id": card.sample}
        return [
            {
                "answer_id": self._id(rater, serial, dimension),
                **self._whose(rater),
                **shown,
                "dimension": dimension,
                "value": float(values[dimension]) if values else None,
                "dwell_ms": dwell,
                "comment": words if place == 0 else None,
            }
            for place, dimension in enumerate(self.dimensions)
        ]

    def _load(self) -> None:
        rows = self.queue.store.query(
            "SELECT * FROM questionnaires WHERE session_id = ? AND rater_kind = 'human' "
            "AND dimension IN (SELECT unnest(?::VARCHAR[])) ORDER BY seq",
            [self.queue.session.id, list(self.dimensions)],
        )
        # The rows of one answer were appended together; its name is their common beginning.
        together: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            together.setdefault((row["rater"], row["answer_id"].partition("/")[0]), []).append(row)
        for (rater, _), found in together.items():
            if found[0]["undoes"]:
                self._sheet(rater).take_back(found[0]["undoes"].partition("/")[0])
            else:
                self._take_in(rater, found)

    def _take_in(self, rater: str, rows: list[dict[str, Any]]) -> None:
        card = next(
            c.name
            for c in self.cards.values()
            if c.key == rows[0]["key"] and c.sample == rows[0]["sample_id"]
        )
        entry = {
            "name": rows[0]["answer_id"].partition("/")[0],
            "rows": rows,
            "card": card,
            "key": card,
            "valued": rows[0]["value"] is not None,
        }
        self._sheet(rater).add(entry["name"], entry)

    def _shown(self, rater: str, ticket: Ticket) -> AnswerCard | None:
        queue = self.queue
        return next(
            (
                card
                for card in self.cards.values()
                if reference(queue.key, queue.session.id, rater, self.form, card.name) == ticket.ref
            ),
            None,
        )

    def _sheet(self, rater: str) -> Sheet:
        return self.sheets.setdefault(rater, Sheet())

    def _whose(self, rater: str) -> dict[str, str]:
        return {"session_id": self.queue.session.id, "rater": rater, "rater_kind": "human"}

    def _id(self, rater: str, serial: int, dimension: str) -> str:
        parts = (self.queue.session.id, rater, self.form, str(serial))
        name = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()
        return f"{name}/{dimension}"
