"""Quality of votes: each rater's habits, and how far raters agree."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from harness.ratings.session import Session
from harness.ratings.votes import Vote
from harness.statistics.agreement import Agreement, cohen, fleiss, krippendorff

FEWEST = 10
"""Votes below which a rater gets no warning about their habits."""


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """One rater. Shares are in [0, 1] and None where nothing was asked.

    left          share of left among left and right choices; `left_p` the chance of one at least
                  as far from a half, by a fair coin (binomial test, two-sided)
    dwell_ms      median time on a pair
    gold          share of known pairs answered rightly; `golds` how many
    repeat        share of repeated pairs answered as before; `swapped` the same for pairs whose
                  sides were swapped: much lower means that the side decides
    """

    rater: str
    votes: int
    left: float | None
    left_p: float | None
    dwell_ms: float | None
    golds: int
    gold: float | None
    repeat: float | None
    swapped: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the session's organizer should look at, in words."""
        said = []
        if self.left is not None and self.left_p is not None and self.left_p < 0.01:
            side = "left" if self.left > 0.5 else "right"
            said.append(f"chooses {side} in {max(self.left, 1 - self.left):.0%}")
        if self.gold is not None and self.golds >= 5 and self.gold < 0.7:
            said.append(f"{self.gold:.0%} of the known pairs right")
        if self.dwell_ms is not None and self.votes >= FEWEST and self.dwell_ms < 1000:
            said.append(f"median {self.dwell_ms:.0f} ms a pair")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class GroupAgreement:
    """Agreement on the pairs that several people judged; choices differ or not, they have no order.

    `alpha` is Krippendorff's over all of them, `fleiss` over the pairs with the commonest number
    of raters, `cohen` per two raters. Below 0.8, `alpha.reliable` is false and `warning` says so.
    """

    alpha: Agreement
    fleiss: Agreement | None
    cohen: Mapping[tuple[str, str], Agreement]

    @property
    def warning(self) -> str | None:
        if self.alpha.value is None:
            return None
        if self.alpha.reliable:
            return None
        return f"raters agree only to α = {self.alpha.value:.2f}; below 0.80, conclude with care"


def rater_quality(session: Session, votes: Sequence[Vote]) -> list[RaterQuality]:
    """One row per rater, in the order of their first vote.

    Ties of equal answers, which nobody was asked about, are nobody's habit.
    """
    mine: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        mine[vote.rater].append(vote)
    better = {gold.keys[0] for gold in session.golds}
    return [_quality(rater, own, better) for rater, own in mine.items()]


def _quality(rater: str, votes: Sequence[Vote], better: set[str]) -> RaterQuality:
    dwells = [vote.dwell_ms for vote in votes if vote.dwell_ms is not None]
    sides = Counter(vote.choice for vote in votes)
    sided = sides["left"] + sides["right"]
    golds = [vote.favours() in better for vote in votes if vote.purpose == "gold"]
    first = {vote.pair: vote.favours() for vote in reversed(votes) if vote.purpose == "plain"}
    again: dict[str, list[bool]] = {"repeat": [], "swapped": []}
    for vote in votes:
        if vote.purpose in again and vote.pair in first:
            again[vote.purpose].append(vote.favours() == first[vote.pair])
    return RaterQuality(
        rater=rater,
        votes=len(votes),
        left=sides["left"] / sided if sided else None,
        left_p=_fair(sides["left"], sided),
        dwell_ms=statistics.median(dwells) if dwells else None,
        golds=len(golds),
        gold=_share(golds),
        repeat=_share(again["repeat"]),
        swapped=_share(again["swapped"]),
    )


def agreement(votes: Sequence[Vote], *, bootstraps: int = 500) -> Agreement:
    """Krippendorff's α over plain votes on pairs that two people or more have judged."""
    return krippendorff(shared_units(votes), bootstraps=bootstraps)


def group_agreement(votes: Sequence[Vote], *, bootstraps: int = 500) -> GroupAgreement:
    """All three coefficients over plain votes on pairs that two people or more have judged."""
    units = shared_units(votes)
    people = sorted({vote.rater for vote in votes})
    return GroupAgreement(
        agreement(votes, bootstraps=bootstraps),
        _fleiss(units, bootstraps),
        {
            (a, b): cohen(*_between(units, a, b), bootstraps=bootstraps)
            for a, b in itertools.combinations(people, 2)
            if any(a in unit and b in unit for unit in units)
        },
    )


def shared_units(votes: Sequence[Vote]) -> list[dict[Hashable, Hashable]]:
    """For each pair with two raters or more: rater -> the answer that they favored.

    Without pairs of one text, which are counted as ties unasked: nobody agreed on anything.
    """
    units: dict[str, dict[Hashable, Hashable]] = defaultdict(dict)
    for vote in votes:
        if vote.purpose == "plain" and vote.dwell_ms is not None:
            units[vote.pair][vote.rater] = _oriented(vote)
    return [unit for unit in units.values() if len(unit) > 1]


def between_kinds(human: Sequence[Vote], judge: Sequence[Vote]) -> Agreement:
    """Cohen's κ between a judge and what most people chose, over the pairs that both judged.

    A pair on which people are split evenly counts as a tie.
    """
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for vote in human:
        if vote.purpose == "plain":
            tally[vote.pair][_oriented(vote)] += 1
    judged = {vote.pair: _oriented(vote) for vote in judge}
    common = [pair for pair in judged if pair in tally]
    return cohen([_most(tally[pair]) for pair in common], [judged[pair] for pair in common])


def _most(counts: Counter[str]) -> str:
    ranked = counts.most_common(2)
    return "tie" if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _oriented(vote: Vote) -> str:
    """The chosen answer as `first` or `second` by the order of the keys, or the choice itself.

    So two raters who saw the pair with its sides swapped agree where they chose one answer.
    """
    if vote.choice not in ("left", "right"):
        return vote.choice
    return "first" if vote.favours() == min(vote.left_key, vote.right_key) else "second"


def _between(
    units: Sequence[Mapping[Hashable, Hashable]], a: Hashable, b: Hashable
) -> tuple[list[Hashable], list[Hashable]]:
    both = [unit for unit in units if a in unit and b in unit]
    return [unit[a] for unit in both], [unit[b] for unit in both]


def _fleiss(units: Sequence[Mapping[Hashable, Hashable]], bootstraps: int) -> Agreement | None:
    if not units:
        return None
    commonest = Counter(len(unit) for unit in units).most_common(1)[0][0]
    chosen = [Counter(unit.values()) for unit in units if len(unit) == commonest]
    names = sorted({str(name) for counts in chosen for name in counts})
    return fleiss([[counts[name] for name in names] for counts in chosen], bootstraps=bootstraps)


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _fair(left: int, sided: int) -> float | None:
    if sided < FEWEST:
        return None
    from scipy.stats import binomtest

    return float(binomtest(left, sided).pvalue)
