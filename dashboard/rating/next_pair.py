"""Which pair a rater sees next: a known one, a repetition, a shared one, or a fresh one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.rating.items import Sheet
from dashboard.rating.tally import Tally
from harness.ratings.model_raters import pair_id
from harness.ratings.session import Session
from harness.statistics.pair_selection import Design, next_comparison, next_item

REPEAT_AFTER = 8
"""Pairs between a pair and its repetition: long enough not to be remembered as a picture."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class OpenComparisons:
    """The comparisons (i, j) that still need votes, and those among them that a verdict needs."""

    comparisons: tuple[Pair, ...]
    targets: tuple[Pair, ...]

    @classmethod
    def of(cls, session: Session, contenders: set[int]) -> OpenComparisons:
        """Those with these contenders (by number); all of them where everyone meets everyone."""
        if len(session.contenders) < 2:
            return cls((), ())
        everyone = session.rules.everyone
        return cls(
            tuple(c for c in session.design.comparisons if everyone or c[1] in contenders),
            tuple(t for t in session.design.targets if t[1] in contenders),
        )


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses the next pair. Its draws depend on the session's salt, the rater and the place alone,
    so a restarted server makes the same ones.
    """

    session: Session
    tally: Tally
    open: OpenComparisons

    def choose(self, rater: str, sheet: Sheet) -> tuple[str, str] | None:
        """(pair, purpose) of the rater's next place; None where they have seen all there is.

        The purpose is `gold`, `repeat`, `swapped` or `plain`.
        """
        rules = self.session.rules
        seen = {(row["pair_id"], row["purpose"]) for row in sheet.live.values()}
        u = self.session.chance("kind", rater, sheet.serial)
        if u < rules.gold:
            pair = self._gold(rater, seen)
            if pair is not None:
                return pair, "gold"
        elif u < rules.gold + rules.repeats + rules.swaps:
            pair = _again(sheet, seen)
            if pair is not None:
                return pair, "repeat" if u < rules.gold + rules.repeats else "swapped"
        met = {pair for pair, purpose in seen if purpose == "plain"}
        pair = None
        if self.session.chance("overlap", rater, sheet.serial) < rules.overlap:
            pair = self._shared(met)
        if pair is None:
            pair = self._fresh(rater, sheet, met)
        return None if pair is None else (pair, "plain")

    def _gold(self, rater: str, seen: set[tuple[str, str]]) -> str | None:
        fresh = [
            f"gold.{n}" for n in range(len(self.session.golds)) if (f"gold.{n}", "gold") not in seen
        ]
        return min(fresh, key=lambda pair: self.session.chance("gold", rater, pair), default=None)

    def _shared(self, met: set[str]) -> str | None:
        """A pair that others judged and this rater hasn't, the one with the fewest votes.

        Ties are broken in one order for all raters, so that their votes meet on the same pairs.
        """
        judged = [
            pair
            for pair, count in self.tally.pairs.items()
            if count > 0 and pair not in met and _compared(pair) in self.open.comparisons
        ]
        return min(
            judged,
            key=lambda pair: (self.tally.pairs[pair], self.session.chance("shared", pair)),
            default=None,
        )

    def _fresh(self, rater: str, sheet: Sheet, met: set[str]) -> str | None:
        """The comparison that narrows the widest interval, on the prompt with the fewest votes."""
        left = list(self.open.comparisons)
        items: Sequence[int] = range(len(self.session.items))
        while left:
            design = Design(len(self.session.contenders), tuple(left), self.open.targets, floor=0.1)
            draw = self.session.chance("comparison", rater, sheet.serial)
            i, j = left.pop(next_comparison(self.tally.points, design, draw))
            index = next_item(
                items,
                {n: self._weight(n, i, j) for n in items},
                {n for n in items if pair_id(n, i, j) in met},
                lambda n: self.session.chance("item", rater, n),
            )
            if index is not None:
                return pair_id(index, i, j)
        return None

    def _weight(self, index: int, i: int, j: int) -> int:
        """A sort key: fewest votes on the pair first, then on its prompt in any comparison."""
        return self.tally.pairs[pair_id(index, i, j)] * 1_000_000 + self.tally.prompts[index]


def _again(sheet: Sheet, seen: set[tuple[str, str]]) -> str | None:
    """The oldest pair that this rater decided and has not seen again."""
    decided = [
        row["pair_id"]
        for row in sheet.live.values()
        # Equal answers, which nobody was asked about, would be no test of memory.
        if row["purpose"] == "plain" and row["choice"] != "skip" and row["dwell_ms"] is not None
    ]
    return next(
        (
            pair
            for pair in decided[:-REPEAT_AFTER]
            if (pair, "repeat") not in seen and (pair, "swapped") not in seen
        ),
        None,
    )


def _compared(pair: str) -> Pair:
    i, j = map(int, pair.split(".")[1:])
    return i, j
