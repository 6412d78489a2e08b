"""Agreement of raters beyond chance: Cohen's κ, Fleiss' κ, Krippendorff's α, with intervals.

All three are 1 at full agreement, 0 where raters agree as often as by chance, and can be negative.
They are None where every rating is the same: chance would then always agree, so agreement beyond
chance has no meaning. Intervals are percentiles of a bootstrap over units (what was rated); the
raters are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.core.errors import UserError

Floats = npt.NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["none", "linear", "quadratic"]

RELIABLE = 0.8
"""Below this α, conclusions are not to be drawn without a warning (Krippendorff 2004, p. 241)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One coefficient (at most 1), its interval, and the number of units behind it.

    `low` and `high` are None with fewer than two units, and where half of the bootstrap's draws or
    more have no value.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int

    @property
    def reliable(self) -> bool:
        """Whether the value is at least 0.8; False where there is none."""
        return self.value is not None and self.value >= RELIABLE


def cohen(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    order: Sequence[Hashable] | None = None,
    weights: Weights = "none",
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Cohen's κ of two raters on the same units (Cohen 1960; with weights by distance, 1968).

    first, second   each rater's rating of the n-th unit
    order           the categories from one end to the other; those that occur, sorted, if left out
    weights         how disagreement grows with the distance in `order`: not at all, linear, squared
    bootstraps, confidence, seed   of the interval

    Raises UserError where the lengths differ, a rating is missing, or a weight is asked for without
    an `order`.
    """
    if len(first) != len(second):
        raise UserError(
            f"the first rater has {len(first)} ratings and the second {len(second)}",
            hint="give both raters' ratings of the same units, in the same order",
        )
    pairs = zip(first, second, strict=True)
    gap = next((unit for unit, pair in enumerate(pairs) if any(map(_missing, pair))), None)
    if gap is not None:
        raise UserError(
            f"unit {gap} lacks a rating",
            hint="leave out units that only one of the two rated; Krippendorff's alpha takes gaps",
        )
    if weights != "none" and order is None:
        raise UserError(
            "weights need the order of the categories",
            field="order",
            hint='such as order=["bad", "fair", "good"]',
        )
    categories = _categories([*first, *second], order)
    size = len(categories)
    table = np.zeros((len(first), size, size))
    for unit, (a, b) in enumerate(zip(first, second, strict=True)):
        table[unit, categories[a], categories[b]] = 1.0
    distance = _distance(size, weights)

    def kappa(total: Floats) -> float | None:
        n = total.sum()
        expected = np.outer(total.sum(axis=1), total.sum(axis=0)) / max(n, 1.0)
        return _one_minus((distance * total).sum(), (distance * expected).sum())

    return _with_interval(table, kappa, bootstraps, confidence, seed)


def fleiss(
    counts: npt.ArrayLike, *, bootstraps: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """Fleiss' κ of many raters (Fleiss 1971).

    `counts` has the shape (units, categories): how many raters put a unit into a category. Every
    unit has the same number of raters, at least two; raises UserError otherwise.
    """
    table = np.asarray(counts, dtype=float)
    if table.ndim != 2 or not len(table):
        raise UserError("Fleiss' kappa takes counts of the shape (units, categories)")
    raters = table.sum(axis=1)
    if raters.min() != raters.max() or raters[0] < 2:
        raise UserError(
            f"units have {raters.min():g} to {raters.max():g} ratings",
            hint="give every unit the same number, 2 at least; Krippendorff's alpha takes any",
        )
    n = raters[0]
    agreeing = (table * (table - 1)).sum(axis=1) / (n * (n - 1))
    per_unit = np.column_stack([1 - agreeing, table / n])

    def kappa(total: Floats) -> float | None:
        units = total[1:].sum()
        if units == 0:
            return None
        share = total[1:] / units
        return _one_minus(total[0] / units, 1 - (share**2).sum())

    return _with_interval(per_unit, kappa, bootstraps, confidence, seed)


def krippendorff(
    ratings: Sequence[Mapping[Hashable, Hashable]],
    *,
    level: Level = "nominal",
    order: Sequence[Hashable] | None = None,
    bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Krippendorff's α of any number of raters, with gaps (Krippendorff 2004).

    `ratings` is one `{rater: value}` per unit. `level` says how far apart two values are:
    `nominal` all that differ are equally far, `ordinal` by the ratings that lie between, `interval`
    by the squared difference of numbers. None and NaN are gaps. A unit with fewer than two ratings
    is left out. Raises UserError for `interval` of texts, and for `ordinal` of them without their
    `order`, because theirs by letter is none.
    """
    rated = [[v for v in unit.values() if not _missing(v)] for unit in ratings]
    units = [unit for unit in rated if len(unit) > 1]
    text = next((v for unit in units for v in unit if not isinstance(v, Real)), None)
    if text is not None and (level == "interval" or (level == "ordinal" and order is None)):
        raise UserError(
            f"the rating {text!r} is no number, and the level is {level}",
            field="order" if level == "ordinal" else "level",
            hint='such as level="ordinal", order=["bad", "fair", "good"]',
        )
    categories = _categories([value for unit in units for value in unit], order)
    size = len(categories)
    counts = np.zeros((len(units), size))
    for row, unit in enumerate(units):
        for value in unit:
            counts[row, categories[value]] += 1
    m = counts.sum(axis=1, keepdims=True)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, range(size), range(size)] -= counts
    pairs = pairs / np.maximum(m - 1, 1)[:, :, None] if len(units) else pairs
    numbers = np.array([float(str(value)) for value in categories] if level == "interval" else [])

    def alpha(total: Floats) -> float | None:
        marginal = total.sum(axis=1)
        n = marginal.sum()
        if n <= 1:
            return None
        distance = _metric(level, marginal, numbers)
        expected = np.outer(marginal, marginal) / (n - 1)
        return _one_minus((distance * total).sum(), (distance * expected).sum())

    return _with_interval(pairs, alpha, bootstraps, confidence, seed)


def _missing(value: Hashable) -> bool:
    return value is None or value != value


def _categories(seen: Sequence[Hashable], order: Sequence[Hashable] | None) -> dict[Hashable, int]:
    if order is None:
        order = sorted(set(seen), key=lambda value: (str(type(value)), value))
    places = {value: place for place, value in enumerate(order)}
    stray = next((value for value in seen if value not in places), None)
    if stray is not None:
        raise UserError(
            f"the rating {stray!r} is not in the order of the categories",
            field="order",
            hint=f"the order names {', '.join(map(str, order))}",
        )
    return places


def _distance(size: int, weights: Weights) -> Floats:
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    if weights == "none":
        return (apart > 0).astype(float)
    return apart if weights == "linear" else apart**2


def _metric(level: Level, marginal: Floats, numbers: Floats) -> Floats:
    size = len(marginal)
    if level == "nominal":
        return 1.0 - np.eye(size)
    if level == "interval":
        return np.asarray(np.subtract.outer(numbers, numbers) ** 2, dtype=float)
    upto = np.cumsum(marginal) - marginal / 2
    return np.asarray(np.subtract.outer(upto, upto) ** 2, dtype=float)


def _one_minus(observed: float, expected: float) -> float | None:
    return None if expected <= 1e-12 else float(1 - observed / expected)


def _with_interval(
    per_unit: Floats,
    coefficient: Callable[[Floats], float | None],
    bootstraps: int,
    confidence: float,
    seed: int,
) -> Agreement:
    """The coefficient of the units' summed tables, with its bootstrap interval.

    All three coefficients are functions of a sum over units, so a resample needs only how often
    each unit was drawn, and all resamples together are one matrix product.
    """
    n = len(per_unit)
    if n == 0:
        return Agreement(None, None, None, 0)
    value = coefficient(per_unit.sum(axis=0))
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=bootstraps)
    totals = np.tensordot(drawn.astype(float), per_unit, axes=1)
    found = [c for c in map(coefficient, totals) if c is not None]
    if value is None or n < 2 or len(found) < bootstraps / 2 or not found:
        return Agreement(value, None, None, n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Agreement(value, float(low), float(high), n)
