"""Counts of a session's plain votes, by which the next pair is chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.ratings.session import Session
from harness.ratings.votes import vote_of


@dataclass
class Tally:
    """Counts over all raters who are not excluded.

    points    (contenders, contenders): what i won against j, a tie ½ to each
    pairs     votes on each pair; `prompts` on each item, in any comparison
    total     plain votes
    """

    points: npt.NDArray[np.float64]
    pairs: Counter[str] = field(default_factory=Counter)
    prompts: Counter[int] = field(default_factory=Counter)
    total: int = 0

    @classmethod
    def empty(cls, session: Session) -> Tally:
        size = len(session.contenders)
        return cls(np.zeros((size, size)))

    def add(self, session: Session, row: dict[str, Any], sign: int) -> None:
        """Count a row of the table votes (`sign` 1), or take it out again (-1)."""
        if row["purpose"] != "plain" or row["choice"] == "skip":
            return
        index, i, j = map(int, row["pair_id"].split("."))
        self.total += sign
        self.pairs[row["pair_id"]] += sign
        self.prompts[index] += sign
        if row["choice"] != "both_bad":
            won = vote_of(row).points(session.contenders[i].digest) or 0.0
            self.points[i, j] += sign * won
            self.points[j, i] += sign * (1 - won)
