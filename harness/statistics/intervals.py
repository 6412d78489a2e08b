"""Confidence intervals of means, ratios and shares: those that gate, tables and pages print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import t_test

LEVEL = 0.95
"""Confidence level of the intervals that are shown, unless another is asked for."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval over `n` samples; the ends are None where none can be claimed.

    `base` is the anchor's value where `value` is a change from it.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    base: float | None = None

    @classmethod
    def of(cls, value: float, bounds: Interval | None, n: int, base: float | None = None) -> Self:
        """The same from a pair of ends, or None."""
        low, high = bounds if bounds is not None else (None, None)
        return cls(value, low, high, n, base)


def t_interval(
    values: npt.ArrayLike,
    level: float = LEVEL,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Interval | None:
    """Two-sided interval of the mean of `values`, shape (n,).

    None with fewer than two clusters, or where all values agree: no spread was seen, so no width
    can be claimed.
    """
    from scipy.special import stdtrit

    test = t_test(values, clusters=clusters, weights=weights)
    if float(test.df) < 1 or float(test.se) == 0:
        return None
    half = float(stdtrit(float(test.df), (1 + level) / 2) * test.se)
    return float(test.mean) - half, float(test.mean) + half


def range_interval(
    values: npt.ArrayLike,
    ends: tuple[float, float],
    level: float = LEVEL,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
) -> Interval | None:
    """`t_interval` of a mean of values between `ends`, cut to them; shape (n,).

    Where every value lies at one end, t sees no spread: the interval is then the exact binomial's
    for none of n seen (Clopper & Pearson 1934), which holds for any values in a range (Hoeffding
    1963). None with fewer than two clusters, or where all agree between the ends.
    """
    x = np.asarray(values, dtype=float)
    low, high = ends
    bounds = t_interval(x, level, clusters=clusters)
    if bounds is not None:
        return max(bounds[0], low), min(bounds[1], high)
    groups = len(x) if clusters is None else int(clusters.max()) + 1
    mean = float(x.mean())
    if mean not in ends or groups < 2:
        return None
    reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / groups))
    return (low, low + reach) if mean == low else (high - reach, high)


def ratio_interval(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    level: float = LEVEL,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
) -> Interval | None:
    """Interval of Σ numerator / Σ denominator, shape (n,) each; the latter may not add up to 0.

    The ratio estimator, linearized (Cochran 1977, 6.3): a ratio isn't a mean of one number a
    sample, so each sample enters with its share in the ratio's error, and `t_interval` does the
    rest. None as there.
    """
    h, w = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    total = float(w.sum())
    ratio = float(h.sum()) / total
    linear = (h - ratio * w) * (len(w) / total) + ratio
    return t_interval(linear, level, clusters=clusters)


def wilson(hits: float, n: int, level: float = LEVEL) -> Estimate:
    """The share `hits`/n, 0 to 1, with Wilson's score interval (Wilson 1927). n may not be 0."""
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    share = hits / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Estimate(share, max(0.0, center - half), min(1.0, center + half), n)


def fieller(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    level: float = LEVEL,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Interval | None:
    """Interval of E[numerator]/E[denominator], paired, shape (n,) each (Fieller 1954).

    All θ for which "E[numerator − θ·denominator] = 0" is not rejected by a t-test. With harm over
    base this is the test that the gate makes at θ = its margin, so interval and verdict don't
    contradict each other. None where the denominator may be 0, since the set is then unbounded,
    and where the ratio shows no spread at all.
    """
    from scipy.special import stdtrit

    x, y = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    of_y = t_test(y, clusters=clusters, weights=weights)
    of_x = t_test(x, clusters=clusters, weights=weights)
    groups_df = len(x) - 1 if clusters is None else int(clusters.max())
    if groups_df < 1 or float(of_y.mean) == 0:
        return None
    # Var(x + y) = Var(x) + Var(y) + 2·Cov: the covariance with the same clusters and weights.
    both = t_test(x + y, clusters=clusters, weights=weights)
    q = float(stdtrit(groups_df, (1 + level) / 2)) ** 2
    vx, vy = float(of_x.se) ** 2, float(of_y.se) ** 2
    cov = (float(both.se) ** 2 - vx - vy) / 2
    mx, my = float(of_x.mean), float(of_y.mean)
    # (mx − θ·my)² = q·Var(mx − θ·my) is a quadratic in θ; its roots are the interval's ends.
    a, b, c = my * my - q * vy, mx * my - q * cov, mx * mx - q * vx
    if a <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    if root <= 1e-9 * max(abs(b), abs(a)):
        return None
    return (b - root) / a, (b + root) / a
