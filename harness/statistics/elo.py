"""Elo points from pairwise votes: Bradley-Terry by maximum likelihood, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.core.errors import UserError
from harness.statistics.bradley_terry import LEFT, POINTS, RIGHT, TIE, Floats, fit
from harness.statistics.elo_intervals import Votes, intervals

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CENTER", "POINTS", "Ratings", "rate"]

CENTER = 1000.0
"""The points of the anchor, or the mean over models without one."""

_CHOICES = {"left": LEFT, "right": RIGHT, "tie": TIE, "both_bad": 3}
_SCORED = np.array([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class Ratings:
    """Elo points of the models; higher is better, and only differences mean anything.

    ratings      model -> points; the anchor (or the mean, without one) stands at 1000
    intervals    model -> (low, high), which hold its points; nothing for the anchor, and nothing
                 at all where none were asked for
    wins         models × models: votes that the row won over the column, a tie counts ½ to each
    games        models × models: votes between the two, both-bad ones left out
    both_bad     model -> share of its votes in which both were called bad
    tie_weight   Davidson's ν (0 with ties as halves, infinite where every vote is a tie)
    separable    some models never beat, or never met, some others: no maximum likelihood
                 exists, and a weak prior (500 points around the mean) keeps the ratings finite
    confidence   of the intervals, such as 0.95
    """

    ratings: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    wins: pd.DataFrame
    games: pd.DataFrame
    both_bad: Mapping[str, float]
    tie_weight: float
    separable: bool
    confidence: float

    @property
    def win_matrix(self) -> pd.DataFrame:
        """Share of votes that the row won over the column, ties ½; missing where none met."""
        return (self.wins / self.games.where(self.games > 0)).astype("Float64")


def rate(
    votes: pd.DataFrame,
    *,
    anchor: str | None = None,
    ties: Literal["half", "davidson"] = "half",
    bootstraps: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ratings:
    """Rate models from `votes`: columns left, right (names) and choice, optional rater, prompt.

    `choice` is `left`, `right`, `tie` or `both_bad`. Bradley & Terry 1952 with a tie as half a win
    for each (as evalica), or Davidson 1970 with a parameter for ties. A vote that both are bad
    ranks neither of them and is counted apart. The order of the votes doesn't matter.

    Intervals are profile likelihood's (Venzon & Moolgavkar 1988), wider where votes of one rater,
    or on one prompt, agree more than independent ones would; `harness.statistics.elo_intervals`
    has the rule. They hold the truth in at least 93 of 100 drawn worlds at a `confidence` of 0.95,
    with raters and without, few votes and models that nearly always win included. One rater's
    votes count as one vote, for what other raters would say is not known. `bootstraps` 0 leaves the
    intervals out; otherwise it and `seed` change nothing: votes were once resampled.

    Raises UserError for a missing column, an unknown choice, a model against itself, an anchor
    without votes, or no vote that ranks.
    """
    if not 0.0 < confidence < 1.0:
        raise UserError(
            f"a confidence of {confidence} is not a share", field="confidence", hint="such as 0.95"
        )
    table = _Table.of(votes)
    if anchor is not None and anchor not in table.models:
        raise UserError(
            f"the anchor {anchor!r} has no vote that ranks it",
            field="anchor",
            hint=f"models with votes: {', '.join(table.models)}",
        )
    ranked = table.choice < 3
    found = fit(table.counts(ranked.astype(np.float64)), ties)
    center = table.models.index(anchor) if anchor is not None else None
    points = _points(found.strength, center)
    named = {model: index for index, model in enumerate(table.models) if index != center}
    contrasts = [_contrast(index, center, len(points)) for index in named.values()]
    around = intervals(table.ranking(ranked), found, contrasts, confidence) if bootstraps else []
    wins, games = _matrices(table, ranked)
    return Ratings(
        ratings=dict(zip(table.models, points.tolist(), strict=True)),
        intervals={
            model: (CENTER + low, CENTER + high)
            for model, (low, high) in zip(named, around, strict=False)
        },
        wins=wins,
        games=games,
        both_bad=table.both_bad(),
        tie_weight=math.exp(found.log_tie),
        separable=found.separable,
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Table:
    """Votes as integers, shape (votes,) each: models left and right, the choice, and the codes of
    rater and prompt (`clusters`) where there are such columns.
    """

    models: list[str]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    choice: NDArray[np.int64]
    clusters: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, votes: pd.DataFrame) -> _Table:
        import pandas as pd

        for column in ("left", "right", "choice"):
            if column not in votes.columns:
                raise UserError(
                    f"the votes have no column {column!r}",
                    field=column,
                    hint="they need left, right and choice, and may have rater and prompt",
                )
            if not isinstance(votes[column], pd.Series):
                raise UserError(f"the votes have two columns {column!r}", field=column)
        # Names and choices are texts, whatever kind of column holds them (categories too).
        said = votes["choice"].astype(object)
        choice = said.map(lambda one: _CHOICES.get(one) if isinstance(one, str) else None)
        if choice.isna().any():
            bad = said[choice.isna()].iloc[0]
            raise UserError(
                f"{bad!r} is not a choice", field="choice", hint=f"one of {', '.join(_CHOICES)}"
            )
        if votes[["left", "right"]].isna().any(axis=None):
            raise UserError(
                "a vote lacks the name of a model",
                field="left, right",
                hint="leave out votes without both names",
            )
        if not (choice < 3).any():
            raise UserError(
                "no vote ranks one model above another",
                field="choice",
                hint="at least one vote must be left, right or tie",
            )
        names = pd.concat([votes["left"].astype(str), votes["right"].astype(str)])
        codes, models = pd.factorize(names, sort=True)
        left, right = codes[: len(votes)], codes[len(votes) :]
        if (left == right).any():
            raise UserError(
                f"a vote compares {models[left[left == right][0]]} with itself",
                field="left, right",
                hint="left and right must name two models",
            )
        clusters = tuple(
            _cluster_codes(votes[column]) for column in ("rater", "prompt") if column in votes
        )
        # Neighbors in one cell make the sums below run through memory in order.
        order = np.lexsort((choice, right, left))
        return cls(
            list(models),
            left[order],
            right[order],
            choice.to_numpy(dtype=np.int64)[order],
            tuple(cluster[order] for cluster in clusters),
        )

    @cached_property
    def _cell(self) -> NDArray[np.int64]:
        size = len(self.models)
        return (self.choice * size + self.left) * size + self.right

    def counts(self, weights: Floats) -> Floats:
        """(3, models, models): weights of votes by choice, left and right."""
        size = len(self.models)
        total = np.bincount(self._cell, weights=weights, minlength=4 * size * size)
        return total.astype(np.float64).reshape(4, size, size)[:3]

    def ranking(self, ranked: NDArray[np.bool_]) -> Votes:
        """The votes that rank, as the intervals take them."""
        return Votes(
            self.left[ranked],
            self.right[ranked],
            _SCORED[self.choice[ranked]],
            tuple(np.unique(c[ranked], return_inverse=True)[1] for c in self.clusters),
        )

    def both_bad(self) -> dict[str, float]:
        size = len(self.models)
        sides = np.concatenate([self.left, self.right])
        bad = np.bincount(sides, np.tile(self.choice == 3, 2), minlength=size)
        return dict(
            zip(self.models, (bad / np.bincount(sides, minlength=size)).tolist(), strict=True)
        )


def _cluster_codes(column: pd.Series) -> NDArray[np.int64]:
    """Integers by value; a vote without a value stands for itself."""
    import pandas as pd

    codes, uniques = pd.factorize(column)
    found: NDArray[np.int64] = np.array(codes, dtype=np.int64)
    missing = found < 0
    found[missing] = len(uniques) + np.arange(missing.sum())
    return found


def _points(strength: Floats, anchor: int | None) -> Floats:
    shift = strength.mean() if anchor is None else strength[anchor]
    points: Floats = CENTER + POINTS * (strength - shift)
    return points


def _contrast(model: int, anchor: int | None, size: int) -> Floats:
    """Weights of the strengths in a model's points."""
    weights = np.zeros(size) if anchor is not None else np.full(size, -1.0 / size)
    weights[model] += 1.0
    if anchor is not None:
        weights[anchor] -= 1.0
    return weights


def _matrices(table: _Table, ranked: NDArray[np.bool_]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    counts = table.counts(ranked.astype(np.float64))
    drawn = counts[TIE] + counts[TIE].T
    wins = counts[LEFT] + counts[RIGHT].T + drawn / 2

    def frame(values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, index=table.models, columns=table.models)

    return frame(wins), frame(wins + wins.T)
