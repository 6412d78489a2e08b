"""One rating session of pairs: shows each rater their next pair, and stores what they say.

Everything here is built from the store when a server starts, so a killed server loses nothing. A
vote is in the journal, on the disk, before it is acknowledged. Its id is a digest of its place in
the rater's sequence of votes, so that no place can be filled twice.
"""

from __future__ import annotations

import bisect
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dashboard.rating.formatted import formatted
from dashboard.rating.items import PairCard, Sheet, every_pair, pair_card
from dashboard.rating.keys import Ticket, read_ticket, reference, sign_ticket
from dashboard.rating.next_pair import Chooser, OpenComparisons
from dashboard.rating.tally import Tally
from harness.core.escape import visible
from harness.ratings.blinding import load_texts, scrubber
from harness.ratings.session import CHOICES, Session, register
from harness.ratings.verdict import looks_at, standings
from harness.ratings.votes import vote_of
from harness.store.store import Store

MAX_COMMENT = 2000

State = dict[str, Any]


class Rejected(Exception):  # noqa: N818 - an answer to the page, not an error
    """What a page sent is refused. `why` is the key of a sentence in `dashboard.rating.strings`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class PairQueue:
    """One session. Safe for threads: one lock, held for no longer than an append takes."""

    def __init__(
        self,
        store: Store,
        session: Session,
        key: bytes,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.session, self.key = store, session, key
        self.clock = clock
        self.lock, self.refreshing = threading.Lock(), threading.Lock()
        texts, scrub = load_texts(store, session), scrubber(session)
        self.answers = {key: visible(scrub(text), None) for key, text in texts.answers.items()}
        self.prompts = {
            place: [
                {"role": str(m.get("role", "")), "text": visible(str(m.get("content", "")), None)}
                for m in prompt
            ]
            for place, prompt in texts.prompts.items()
        }
        for number, gold in enumerate(session.golds):
            self.prompts["gold", str(number)] = [
                {"role": "user", "text": visible(gold.prompt, None)}
            ]
            for name, text in zip(gold.keys, (gold.better, gold.worse), strict=True):
                self.answers[name] = visible(scrub(text), None)
        self.sheets: dict[str, Sheet] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.register = register(store, session)
        self.looks = looks_at(session) if len(session.contenders) > 1 else []
        self.reached: list[int] = []
        self.look_due = False
        self._load()
        self._look()

    # What other processes stored.

    def refresh(self) -> None:
        """Read invitations, revocations and exclusions that other processes have stored."""
        with self.refreshing:
            found = register(self.store, self.session)
            with self.lock:
                changed = set(found.excluded) != set(self.register.excluded)
                # Somebody may have agreed since the store was read.
                agreed = found.consented | self.register.consented
                self.register = replace(found, consented=agreed)
                if changed:
                    self._count()
        if self.look_due:
            self._look()

    def consent(self, rater: str) -> None:
        """Store that the rater agreed to the terms."""
        from harness.ratings.session import record

        if rater not in self.register.consented:
            record(self.store, self.session, "consented", rater=rater)
            with self.lock:
                agreed = self.register.consented | {rater}
                self.register = replace(self.register, consented=agreed)

    # The page's requests.

    def state(self, rater: str) -> State:
        """The pair in front of this rater, their progress, and their last vote. JSON types."""
        with self.lock:
            return self._state(rater)

    def vote(self, rater: str, ticket_text: str, choice: str, dwell_ms: float) -> State:
        """Take in a vote or a skip, and return the next state.

        A ticket that was used already changes nothing and returns the state with `already`: the
        button was pressed twice, or the answer to the first request was lost. Raises Rejected.
        """
        ticket = read_ticket(self.key, rater, ticket_text)
        if ticket is None or ticket.form != "pairs" or choice not in (*CHOICES, "skip"):
            raise Rejected("invalid")
        with self.lock:
            sheet = self._sheet(rater)
            if ticket.serial < sheet.serial:
                return self._state(rater) | {"already": True}
            card = self._shown(rater, ticket)
            if card is None or ticket.serial > sheet.serial:
                raise Rejected("invalid")
            # The page measures the time without pauses, but can't claim more than has passed since
            # the ticket was given out.
            dwell = min(float(dwell_ms), self.clock() * 1000 - ticket.issued_ms)
            if choice != "skip" and dwell < self.session.rules.min_dwell_ms:
                raise Rejected("too_soon")
            row = {
                "vote_id": self._id(rater, sheet.serial),
                **self._whose(rater),
                **card.row(),
                "choice": choice,
                "dimension": "preference",
                "dwell_ms": max(dwell, 0.0),
                "comment": None,
            }
            self.store.append("votes", [row])
            self._take_in(rater, row)
            return self._state(rater)

    def undo(self, rater: str, vote_id: str) -> State:
        """Take back the rater's last vote, if it is that one; its pair comes back at once."""
        with self.lock:
            sheet = self._sheet(rater)
            last = sheet.last_given
            if last is None or last["vote_id"] != vote_id:
                return self._state(rater) | {"already": True}
            row = {
                "vote_id": self._id(rater, sheet.serial),
                **self._whose(rater),
                **{name: last[name] for name in ("pair_id", "purpose", "task", "sample_id")},
                "choice": "undo",
                "undoes": vote_id,
            }
            self.store.append("votes", [row])
            self._take_in(rater, row)
            return self._state(rater)

    def comment(self, rater: str, vote_id: str, text: str) -> State:
        """Add the rater's comment to one of their votes. A vote keeps its first comment.

        Raises Rejected for an unknown vote or an empty comment.
        """
        words = text.strip()[:MAX_COMMENT]
        with self.lock:
            row = self._sheet(rater).live.get(vote_id)
            if row is None or not words:
                raise Rejected("invalid")
            if row.get("comment") is None:
                shown = {name: row[name] for name in ("pair_id", "purpose", "task", "sample_id")}
                whose = self._whose(rater)
                said = {"vote_id": f"{vote_id}/comment", **whose, **shown, "choice": "comment"}
                self.store.append("votes", [{**said, "comment": words}])
                row["comment"] = words
            return self._state(rater)

    # State.

    def _state(self, rater: str) -> State:
        sheet = self._sheet(rater)
        card = None if self._done(rater) else self._next(rater, sheet)
        while card is not None and self._says_the_same(card):
            self._tie(rater, sheet, card)
            card = None if self._done(rater) else self._next(rater, sheet)
        done, last = self._done(rater), sheet.last_given
        state: State = {
            "form": "pairs",
            "done": done or (None if card else "seen"),
            "progress": self._progress(sheet),
            "last": None
            if last is None
            else {"id": last["vote_id"], "choice": last["choice"], "comment": last.get("comment")},
        }
        if card is not None:
            # The page gets texts and an opaque reference, never a key or a model: whoever reads its
            # source learns nothing about who wrote which answer.
            ref = reference(self.key, self.session.id, rater, card.pair, card.purpose)
            ticket = Ticket("pairs", sheet.serial, int(self.clock() * 1000), ref)
            sides = {"left": card.left_key, "right": card.right_key}
            texts = {side: self.answers.get(key, "") for side, key in sides.items()}
            state |= {
                "ticket": sign_ticket(self.key, rater, ticket),
                "prompt": [
                    {**turn, "tree": formatted(turn["text"])}
                    for turn in self.prompts.get((card.task, card.sample), [])
                ],
                **texts,
                "trees": {side: formatted(text) for side, text in texts.items()},
            }
        return state

    def _says_the_same(self, card: PairCard) -> bool:
        """Whether the page would show one text twice: then nobody needs to be asked."""
        left, right = (self.answers.get(key, "") for key in (card.left_key, card.right_key))
        return card.purpose == "plain" and left == right

    def _tie(self, rater: str, sheet: Sheet, card: PairCard) -> None:
        """Count a pair of equal answers as this rater's tie: it has no time on screen."""
        row = {
            "vote_id": self._id(rater, sheet.serial),
            **self._whose(rater),
            **card.row(),
            "choice": "tie",
            "dimension": "preference",
            "dwell_ms": None,
            "comment": None,
        }
        self.store.append("votes", [row])
        self._take_in(rater, row)

    def _progress(self, sheet: Sheet) -> dict[str, int]:
        people = max(1, len(self.register.raters))
        counted = [
            row
            for row in sheet.live.values()
            if row["purpose"] == "plain" and row["choice"] != "skip"
        ]
        mine, same = len(counted), sum(row["dwell_ms"] is None for row in counted)
        share = -(-self.session.rules.votes // people)
        return {
            "mine": mine,
            "same": same,
            "share": max(share, 1),
            "total": self.tally.total,
            "target": self.session.rules.votes,
        }

    def _done(self, rater: str) -> str | None:
        if self.register.closed:
            return "closed"
        if rater in self.register.excluded:
            return "closed"
        if self.settled:
            return "settled"
        return "budget" if self.tally.total >= self.session.rules.votes else None

    def _next(self, rater: str, sheet: Sheet) -> PairCard | None:
        if sheet.undone:
            again = sheet.undone[-1]
            return pair_card(self.session, rater, again["pair_id"], again["purpose"])
        chosen = Chooser(self.session, self.tally, self.open).choose(rater, sheet)
        return None if chosen is None else pair_card(self.session, rater, *chosen)

    # Bookkeeping.

    def _load(self) -> None:
        rows = self.store.query(
            "SELECT * FROM votes WHERE session_id = ? AND rater_kind = 'human' ORDER BY seq",
            [self.session.id],
        )
        self.tally = Tally.empty(self.session)
        for row in rows:
            if row["choice"] == "comment":
                voted = self._sheet(row["rater"]).live.get(row["vote_id"].removesuffix("/comment"))
                if voted is not None:
                    voted["comment"] = row["comment"]
            else:
                self._take_in(row["rater"], row)
        self._count()

    def _count(self) -> None:
        """Count anew, without those who are excluded."""
        self.tally = Tally.empty(self.session)
        for row in self.rows.values():
            if row["rater"] not in self.register.excluded:
                self._count_row(row, 1)
        self.look_due = True

    def _look(self) -> None:
        """See whether a planned look has settled a comparison; a settled one gets no more votes.

        The statistics are computed without the lock, so that no vote waits for them.
        """
        with self.lock:
            self.look_due = False
            rows = [
                row
                for row in self.rows.values()
                if row["choice"] != "skip" and row["rater"] not in self.register.excluded
            ]
        everybody = self.session.contenders
        stands = standings(self.session, list(map(vote_of, rows))) if len(everybody) > 1 else []
        open_ones = {n for n, stand in enumerate(stands, start=1) if not stand.settled}
        with self.lock:
            self.settled = bool(stands) and not open_ones
            self.open = OpenComparisons.of(self.session, open_ones)

    def _count_row(self, row: dict[str, Any], sign: int) -> None:
        """Count a row (`sign` 1) or take it out (-1); note where that changes the looks reached."""
        self.tally.add(self.session, row, sign)
        met = self.tally.points[0, 1:] + self.tally.points[1:, 0]
        reached = [bisect.bisect_right(self.looks, round(count)) for count in met]
        self.look_due |= reached != self.reached
        self.reached = reached

    def _take_in(self, rater: str, row: dict[str, Any]) -> None:
        sheet = self._sheet(rater)
        counted = rater not in self.register.excluded
        if row["choice"] == "undo":
            self.rows.pop(row["undoes"], None)
            back = sheet.take_back(row["undoes"])
            if back is not None and counted:
                self._count_row(back, -1)
            return
        self.rows[row["vote_id"]] = row
        sheet.add(row["vote_id"], row)
        if counted:
            self._count_row(row, 1)

    def _shown(self, rater: str, ticket: Ticket) -> PairCard | None:
        """The pair that a ticket refers to, also where it was given out before a restart.

        The reference can't be decoded, so all that the rater may have seen are tried, the likeliest
        first.
        """
        sheet = self._sheet(rater)
        likely = self._next(rater, sheet)
        names = [(likely.pair, likely.purpose)] if likely else []
        for pair, purpose in (*names, *every_pair(self.session)):
            if reference(self.key, self.session.id, rater, pair, purpose) == ticket.ref:
                return pair_card(self.session, rater, pair, purpose)
        return None

    def _sheet(self, rater: str) -> Sheet:
        return self.sheets.setdefault(rater, Sheet())

    def _whose(self, rater: str) -> dict[str, str]:
        return {"session_id": self.session.id, "rater": rater, "rater_kind": "human"}

    def _id(self, rater: str, serial: int) -> str:
        name = "\x1f".join((self.session.id, rater, str(serial))).encode()
        return hashlib.blake2b(name, digest_size=16).hexdigest()
