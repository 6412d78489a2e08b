"""A session's verdict: win share against the anchor, at planned looks only.

A verdict that is looked at after every vote stops when luck has it right: a plain t-test then
passes falsely in 34% instead of 5%. So a look is a number of votes that was fixed when the
session was made, each spends its own share of the session's alpha, and it reads exactly the first
so many votes, whenever it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.types import VerdictOutcome
from harness.gate.decision import agreed, decide
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.gate.verdict import Verdict
from harness.ratings.session import Contender, Session
from harness.ratings.votes import Vote, plain

METRIC = "human/win_share"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the verdict on one contender stands.

    votes     votes between it and the anchor that rank the two; `both_bad` more called both bad
    planned   the number of votes at the last look
    verdict   of the last look that was reached; None before the first
    next_at   the number of votes at the next look; None once settled, or after the last look
    share     its win share so far over all votes, 0 to 1, a tie counted as ½; None without votes
    """

    contender: Contender
    votes: int
    both_bad: int
    planned: int
    verdict: Verdict | None
    next_at: int | None
    share: float | None

    @property
    def settled(self) -> bool:
        return self.verdict is not None and self.verdict.outcome in (
            VerdictOutcome.PASS,
            VerdictOutcome.FAIL,
        )

    @property
    def missing(self) -> int:
        """Votes until the next planned look."""
        return 0 if self.next_at is None else max(0, self.next_at - self.votes)

    @property
    def sentence(self) -> str:
        """Whether the verdict is settled, or how many votes are missing."""
        if self.settled:
            assert self.verdict is not None
            j, looks = self.verdict.look
            return f"settled: {self.verdict.outcome.value} at look {j} of {looks}"
        if self.next_at is None:
            return f"not settled, and all {self.planned} planned votes are in"
        return (
            f"not settled: {self.missing} votes to the next look (at {self.next_at}), "
            f"{self.planned - self.votes} to the last"
        )


def win_share(
    found: Sequence[Vote], anchor: str, candidate: str, *, unit: Literal["prompt", "rater"]
) -> MetricScores:
    """Votes between the two models as the gate reads a win share, clustered by that unit.

    One value per vote: 1 where `candidate` (a digest) won, ½ a tie, 0 where it lost. The gate
    compares it with one half with a margin of 5%: z = 0.475 − w.
    """
    votes = direct(found, anchor, candidate)
    return MetricScores(
        values={vote.id: vote.points(candidate) or 0.0 for vote in votes},
        form="winshare",
        clusters={vote.id: vote.prompt if unit == "prompt" else vote.rater for vote in votes},
        worst=0.0,
        best=1.0,
        unit="share",
    )


def direct(found: Sequence[Vote], anchor: str, candidate: str) -> list[Vote]:
    """Plain votes between the two that rank, in the order they were given."""
    return [
        vote
        for vote in plain(found)
        if {vote.left, vote.right} == {anchor, candidate} and vote.choice != "both_bad"
    ]


def standings(session: Session, found: Sequence[Vote]) -> list[Standing]:
    """Where each contender stands against the anchor. Pure: the same votes, the same answer."""
    return [standing(session, found, contender) for contender in session.contenders[1:]]


def looks_at(session: Session) -> list[int]:
    """For each planned look, the number of votes between a contender and the anchor at it."""
    planned = session.votes_per_comparison
    # Less a hair: 0.07 of 100 is 7.000000000000001 in floating point, and must not become 8.
    return [max(1, math.ceil(share * planned - 1e-9)) for share in session.rules.looks]


def standing(session: Session, found: Sequence[Vote], contender: Contender) -> Standing:
    """Where one contender stands against the anchor. Pure: the same votes, the same answer."""
    anchor, candidate = session.anchor.digest, contender.digest
    votes = direct(found, anchor, candidate)
    at = looks_at(session)
    verdict: Verdict | None = None
    earlier: Mapping[str, Verdict] = {}
    next_at: int | None = at[0]
    for look, needed in enumerate(at, start=1):
        if len(votes) < needed:
            break
        # Exactly so many votes, even where more are in: else the look would lie where luck has it.
        earlier = _look(session, votes[:needed], candidate, (look, len(at)), earlier)
        verdict = agreed(list(earlier.values()))
        next_at = at[look] if look < len(at) else None
        if verdict.outcome is not VerdictOutcome.INCONCLUSIVE:
            next_at = None
            break
    points = [vote.points(candidate) or 0.0 for vote in votes]
    met = [v for v in plain(found) if {v.left, v.right} == {anchor, candidate}]
    return Standing(
        contender=contender,
        votes=len(votes),
        both_bad=len(met) - len(votes),
        planned=at[-1],
        verdict=verdict,
        next_at=next_at,
        share=sum(points) / len(points) if points else None,
    )


def _look(
    session: Session,
    votes: Sequence[Vote],
    candidate: str,
    look: tuple[int, int],
    earlier: Mapping[str, Verdict],
) -> dict[str, Verdict]:
    """The gate's verdict with each unit that the session's claim asks for."""
    policy = GatePolicy(alpha=session.rules.alpha, looks=session.rules.looks)
    units: tuple[Literal["prompt", "rater"], ...] = (
        ("prompt", "rater") if session.rules.claim == "people" else ("prompt",)
    )
    return {
        unit: decide(
            {},
            {METRIC: win_share(votes, session.anchor.digest, candidate, unit=unit)},
            policy,
            look=look,
            earlier=earlier.get(unit),
        )
        for unit in units
    }
