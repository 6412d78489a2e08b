"""Agreement of raters beyond chance: Cohen's κ, Fleiss' κ, Krippendorff's α, with intervals.

All three are 1 at full agreement, 0 as by chance, and can be negative. None where chance alone
would always agree (everybody said one thing), because there is then nothing to correct for.
Intervals are the percentiles of a bootstrap over units: what was rated is the sample, not who.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
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
    """One coefficient (at most 1), its interval, and how many units it stands on.

    `low` and `high` are None where too few units were drawn that say anything.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int

    @property
    def reliable(self) -> bool:
        """At least 0.8. No value is not evidence of agreement."""
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
    """Two raters on the same units (Cohen 1960; weighted by distance in `order`, 1968).

    Raises UserError where the lengths differ, or a weight is asked for without an `order`.
    """
    if len(first) != len(second):
        raise UserError(f"{len(first)} ratings stand against {len(second)}")
    if weights != "none" and order is None:
        raise UserError("weights need the order of the categories", field="order")
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
    """Many raters (Fleiss 1971). `counts` has the shape (units, categories): how many said what.

    Every unit has the same number of raters, two at least; raises UserError otherwise.
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
    """Any number of raters, ratings missing (Krippendorff 2004): one `{rater: value}` per unit.

    `level` says what distance means: `nominal` any difference, `ordinal` ranks in between,
    `interval` the squared difference of numbers. A unit with fewer than two ratings says nothing.
    """
    units = [list(unit.values()) for unit in ratings if len(unit) > 1]
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


def _categories(seen: Sequence[Hashable], order: Sequence[Hashable] | None) -> dict[Hashable, int]:
    if order is None:
        order = sorted(set(seen), key=lambda value: (str(type(value)), value))
    places = {value: place for place, value in enumerate(order)}
    stray = next((value for value in seen if value not in places), None)
    if stray is not None:
        raise UserError(f"the rating {stray!r} is none of {list(order)}", field="order")
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
    """The coefficient of the units' sum. It is linear in the units, so a resample is a product."""
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
