"""Which pair of models to ask about next: where the widest interval narrows most.

What is to be known are differences of log-strengths between models. The vote that narrows the
widest of their intervals most isn't always one between its two models: where they are far apart the
result of a direct vote is nearly certain, and a comparison with a model between them tells more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from harness.core.errors import UserError

Floats = npt.NDArray[np.float64]
Comparison = tuple[int, int]
Item = TypeVar("Item", bound=Hashable)

PRIOR = 0.5
"""Precision of the normal prior on a log-strength: finite intervals before there are votes."""


@dataclass(frozen=True, slots=True)
class Design:
    """What may be asked and what is to be known, both as pairs of model indices.

    comparisons   pairs of models that raters may see side by side
    targets       differences whose intervals count; the comparisons themselves where left out
    floor         share of votes spent uniformly over the comparisons, whatever the intervals say:
                  it keeps the design honest where the model of the votes is wrong
    """

    models: int
    comparisons: tuple[Comparison, ...]
    targets: tuple[Comparison, ...] = ()
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not self.comparisons:
            raise UserError("there is nothing to compare", hint="name at least two runs")
        if not 0 <= self.floor <= 1:
            raise UserError(
                f"a floor is a share from 0 to 1, not {self.floor}",
                field="floor",
                hint="0.1 spends a tenth of the votes evenly over all pairs",
            )

    @classmethod
    def against(cls, models: int, *, everyone: bool = False, floor: float = 0.1) -> Design:
        """Every model against the first; `everyone` also lets the others meet."""
        anchored = tuple((0, other) for other in range(1, models))
        rest = tuple((i, j) for i in range(1, models) for j in range(i + 1, models))
        return cls(models, anchored + rest if everyone else anchored, anchored, floor)


def interval_widths(points: Floats, design: Design, confidence: float = 0.95) -> Floats:
    """Full width of each target's interval, in log-odds, shape (targets,).

    From the Fisher information in the votes. `points` has the shape (models, models): how many
    votes the row won over the column, a tie ½ to each.
    """
    from scipy.special import ndtri

    covariance = np.linalg.inv(_information(points, _strengths(points)))
    contrasts = _contrasts(design.targets or design.comparisons, design.models)
    variance = np.einsum("ti,ij,tj->t", contrasts, covariance, contrasts)
    width: Floats = 2 * float(ndtri((1 + confidence) / 2)) * np.sqrt(variance)
    return width


def next_comparison(points: Floats, design: Design, draw: float) -> int:
    """The index of the comparison to ask next.

    `points` as in `interval_widths`. `draw` is one uniform number in [0, 1): below the floor it
    picks a comparison uniformly. Otherwise the one is taken that lowers the variance of the widest
    target most: a vote between i and j, d = e_i − e_j, adds info = p(1−p) to the information matrix
    in the direction d, and so takes info·(cᵀΣd)² / (1 + info·dᵀΣd) from the variance of a target c
    (Sherman & Morrison 1950).
    """
    if draw < design.floor:
        return int(draw / design.floor * len(design.comparisons))
    strengths = _strengths(points)
    covariance = np.linalg.inv(_information(points, strengths))
    targets = _contrasts(design.targets or design.comparisons, design.models)
    widest = targets[np.argmax(np.einsum("ti,ij,tj->t", targets, covariance, targets))]
    asked = _contrasts(design.comparisons, design.models)
    chance = 1 / (1 + np.exp(-(asked @ strengths)))
    information = chance * (1 - chance)
    own = np.einsum("ci,ij,cj->c", asked, covariance, asked)
    gain = information * (asked @ covariance @ widest) ** 2 / (1 + information * own)
    return int(np.argmax(gain))


def next_item(
    items: Iterable[Item],
    votes: Mapping[Item, int],
    seen: Set[Item],
    order: Callable[[Item], Hashable],
) -> Item | None:
    """The item with the fewest votes that this rater has not seen; None where all are seen.

    Fewest first spreads the votes evenly over the prompts. It doesn't look at any outcome, so the
    votes on a comparison stay a fair sample of its prompts. `order` breaks ties, differently for
    each rater.
    """
    fresh = (item for item in items if item not in seen)
    return min(fresh, key=lambda item: (votes.get(item, 0), order(item)), default=None)


def _contrasts(pairs: Sequence[Comparison], models: int) -> Floats:
    out = np.zeros((len(pairs), models))
    for row, (i, j) in enumerate(pairs):
        out[row, i], out[row, j] = 1.0, -1.0
    return out


def _strengths(points: Floats) -> Floats:
    """Bradley–Terry log-strengths under the prior, by Newton's method."""
    strengths = np.zeros(len(points))
    games = points + points.T
    for _ in range(50):
        chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        gradient = (points - games * chance).sum(axis=1) - PRIOR * strengths
        step = np.linalg.solve(_information(points, strengths), gradient)
        # Far from the maximum Newton's step can overshoot, so it is cut to two units of log-odds.
        strengths = strengths + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return strengths


def _information(points: Floats, strengths: Floats) -> Floats:
    games = points + points.T
    chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    carried = games * chance * (1 - chance)
    out: Floats = np.diag(carried.sum(axis=1) + PRIOR) - carried
    return out
