"""Elo points from pairwise votes: Bradley-Terry by maximum likelihood, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from harness.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POINTS = 400.0 / math.log(10.0)
"""Elo points per unit of log-odds: 400 points are odds of ten to one."""

CENTER = 1000.0
"""The points of the anchor, or the mean over models without one."""

_LEFT, _RIGHT, _TIE = 0, 1, 2
_CHOICES = {"left": _LEFT, "right": _RIGHT, "tie": _TIE, "both_bad": 3}
# Where a model never lost or never won, its likelihood has no maximum: a normal prior with this
# precision on the log-odds (a standard deviation of 500 points) gives it one.
_PRIOR = (POINTS / 500.0) ** 2


@dataclass(frozen=True)
class Ratings:
    """Elo points of the models; higher is better, and only differences mean anything.

    ratings      model -> points; the anchor (or the mean, without one) stands at 1000
    intervals    model -> (low, high), the bootstrap's percentiles; the anchor has none
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

    Intervals: votes are resampled `bootstraps` times by rater and by prompt, each where there is
    such a column, a vote's weight being the product of how often its rater and its prompt were
    drawn (the pigeonhole bootstrap, Owen 2007); without either, vote by vote. A refit works on the
    counts of each pair of models, so it costs the same for a thousand votes and for a million.

    Raises UserError for a missing column, an unknown choice, a model against itself, an anchor
    without votes, or no vote that ranks.
    """
    import numpy as np

    table = _Table.of(votes)
    if anchor is not None and anchor not in table.models:
        raise UserError(
            f"the anchor {anchor!r} has no vote that ranks it",
            field="anchor",
            hint=f"models with votes: {', '.join(table.models)}",
        )
    ranked = table.choice < 3
    fit = _fit(table.counts(ranked.astype(np.float64)), ties)
    rng = np.random.default_rng(seed)
    draws = [_fit(table.resample(rng, ranked), ties, fit) for _ in range(bootstraps)]
    center = table.models.index(anchor) if anchor is not None else None
    points = _points(fit.strength, center)
    intervals = _intervals([_points(d.strength, center) for d in draws], confidence)
    wins, games = _matrices(table, ranked)
    return Ratings(
        ratings=dict(zip(table.models, points.tolist(), strict=True)),
        intervals={
            model: interval
            for index, (model, interval) in enumerate(zip(table.models, intervals, strict=False))
            if index != center
        },
        wins=wins,
        games=games,
        both_bad=table.both_bad(),
        tie_weight=math.exp(fit.log_tie),
        separable=fit.separable,
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
        import numpy as np
        import pandas as pd

        for column in ("left", "right", "choice"):
            if column not in votes.columns:
                raise UserError(
                    f"the votes have no column {column!r}",
                    field=column,
                    hint="they need left, right and choice, and may have rater and prompt",
                )
        choice = votes["choice"].map(_CHOICES)
        if choice.isna().any():
            bad = votes["choice"][choice.isna()].iloc[0]
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
        names = pd.concat([votes["left"], votes["right"]]).astype(str)
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
        import numpy as np

        size = len(self.models)
        total = np.bincount(self._cell, weights=weights, minlength=4 * size * size)
        return total.astype(np.float64).reshape(4, size, size)[:3]

    def resample(self, rng: np.random.Generator, ranked: NDArray[np.bool_]) -> Floats:
        """The counts of one bootstrap sample."""
        import numpy as np

        if not self.clusters:
            observed = self.counts(ranked.astype(np.float64))
            total = int(observed.sum())
            drawn = rng.multinomial(total, (observed / total).ravel())
            return drawn.reshape(observed.shape).astype(np.float64)
        weights = ranked.astype(np.float64)
        for cluster in self.clusters:
            size = int(cluster.max()) + 1
            weights *= rng.multinomial(size, np.full(size, 1.0 / size))[cluster]
        return self.counts(weights)

    def both_bad(self) -> dict[str, float]:
        import numpy as np

        size = len(self.models)
        sides = np.concatenate([self.left, self.right])
        bad = np.bincount(sides, np.tile(self.choice == 3, 2), minlength=size)
        return dict(
            zip(self.models, (bad / np.bincount(sides, minlength=size)).tolist(), strict=True)
        )


def _cluster_codes(column: pd.Series) -> NDArray[np.int64]:
    """Integers by value; each vote without a value gets a number of its own."""
    import numpy as np
    import pandas as pd

    codes, uniques = pd.factorize(column)
    found: NDArray[np.int64] = np.array(codes, dtype=np.int64)
    missing = found < 0
    found[missing] = len(uniques) + np.arange(missing.sum())
    return found


@dataclass(frozen=True)
class _Fit:
    strength: Floats
    log_tie: float
    separable: bool


def _fit(counts: Floats, ties: str, start: _Fit | None = None) -> _Fit:
    """Maximum likelihood by Newton's method on log-strengths (and Davidson's ln ν).

    `counts` has the shape (3, models, models): left won, right won, tie. `start` is a fit of
    nearly the same counts, which saves steps. Both models are exponential families, so the
    log-likelihood is concave and a step that is halved often enough never lowers it.
    """
    import numpy as np

    wins = counts[_LEFT] + counts[_RIGHT].T
    drawn = counts[_TIE] + counts[_TIE].T
    points = wins + drawn / 2
    # If all votes are ties the likelihood grows with ν without end; the strengths are then equal.
    davidson = ties == "davidson" and bool(drawn.any()) and bool(wins.any())
    # A maximum exists only where a chain of wins leads from each model to every other (Ford 1957).
    # A tie that counts half to each is such a link; under Davidson's model a tie isn't.
    separable = not _strongly_connected((wins if davidson else points) > 0)
    size = len(wins)
    position = np.zeros(size + 1)
    if start is not None and not separable:
        position[:size] = start.strength
    if davidson:
        position[size] = math.log(2 * drawn.sum() / max(2 * wins.sum(), 1.0) + 1e-3)
    prior = _PRIOR if separable else 0.0
    value = _likelihood(position, points, drawn, davidson, prior)
    for _ in range(100):
        step = _newton_step(position, points, drawn, davidson, prior)
        scale = 1.0
        while scale > 1e-6:
            new = position + scale * step
            found = _likelihood(new, points, drawn, davidson, prior)
            if found >= value - 1e-12 * abs(value):
                break
            scale /= 2
        position, value = new, found
        if np.abs(scale * step).max() < 1e-10:
            break
    # Without a tie the likelihood is largest where none can happen.
    only_ties = ties == "davidson" and bool(drawn.any()) and not davidson
    log_tie = float(position[size]) if davidson else math.inf if only_ties else -math.inf
    return _Fit(position[:size] - position[:size].mean(), log_tie, separable)


def _outcomes(position: Floats, davidson: bool) -> tuple[Floats, Floats, Floats]:
    """(expected score of row over column, probability of a tie, ln of the normalizer).

    With half the gap g/2 a win has the weight e^(g/2), a loss e^(−g/2) and a tie ν; the normalizer
    is their sum. `position` holds the log-strengths, then ln ν.
    """
    import numpy as np

    gap = position[:-1, None] - position[None, :-1]
    if not davidson:
        normalizer = np.logaddexp(gap / 2, -gap / 2)
        return np.exp(gap / 2 - normalizer), np.zeros_like(gap), normalizer
    normalizer = np.logaddexp(np.logaddexp(gap / 2, -gap / 2), position[-1])
    tie = np.exp(position[-1] - normalizer)
    return np.exp(gap / 2 - normalizer) + tie / 2, tie, normalizer


def _likelihood(
    position: Floats, points: Floats, drawn: Floats, davidson: bool, prior: float
) -> float:
    """The log-likelihood, less the prior's penalty where there is one."""
    _, _, normalizer = _outcomes(position, davidson)
    gap = position[:-1, None] - position[None, :-1]
    games = points + points.T
    # Every pair stands in the matrix twice, so what is symmetric is halved.
    total = (points * gap / 2).sum() - (games * normalizer).sum() / 2
    if davidson:
        total += position[-1] * drawn.sum() / 2
    return float(total - prior / 2 * (position[:-1] ** 2).sum())


def _newton_step(
    position: Floats, points: Floats, drawn: Floats, davidson: bool, prior: float
) -> Floats:
    import numpy as np

    expected, tie, _ = _outcomes(position, davidson)
    games = points + points.T
    size = len(points)
    gradient = np.zeros(size + 1)
    gradient[:size] = (points - games * expected).sum(axis=1) - prior * position[:size]
    spread = games * (expected * (1 - expected) - tie / 4)
    curvature = np.zeros((size + 1, size + 1))
    curvature[:size, :size] = np.diag(spread.sum(axis=1) + prior) - spread
    if davidson:
        gradient[size] = (drawn - games * tie).sum() / 2
        across = (games * tie * (expected - 0.5)).sum(axis=1)
        curvature[:size, size] = curvature[size, :size] = -across
        curvature[size, size] = (games * tie * (1 - tie)).sum() / 2
    else:
        curvature[size, size] = 1.0
    # Adding one constant to every strength changes nothing: pin their sum.
    curvature[:size, :size] += 1.0 / size
    step: Floats = np.linalg.solve(curvature, gradient).astype(np.float64)
    return step


def _strongly_connected(beats: NDArray[np.bool_]) -> bool:
    """Does a chain of wins lead from every model to every other (Ford 1957)?"""
    from scipy.sparse.csgraph import connected_components

    return bool(connected_components(beats, directed=True, connection="strong")[0] == 1)


def _points(strength: Floats, anchor: int | None) -> Floats:
    shift = strength.mean() if anchor is None else strength[anchor]
    points: Floats = CENTER + POINTS * (strength - shift)
    return points


def _intervals(draws: list[Floats], confidence: float) -> list[tuple[float, float]]:
    import numpy as np

    if not draws:
        return []
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(np.stack(draws), [tail, 1.0 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _matrices(table: _Table, ranked: NDArray[np.bool_]) -> tuple[pd.DataFrame, pd.DataFrame]:
    import numpy as np
    import pandas as pd

    counts = table.counts(ranked.astype(np.float64))
    drawn = counts[_TIE] + counts[_TIE].T
    wins = counts[_LEFT] + counts[_RIGHT].T + drawn / 2

    def frame(values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, index=table.models, columns=table.models)

    return frame(wins), frame(wins + wins.T)
