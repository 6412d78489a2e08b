"""A confidence interval for a relative change."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import t_test


def t_interval(
    values: npt.ArrayLike,
    level: float = 0.95,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> tuple[float, float] | None:
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


def fieller(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    level: float = 0.95,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> tuple[float, float] | None:
    """Interval of E[numerator]/E[denominator], paired, shape (n,) each (Fieller 1954).

    All θ for which "E[numerator − θ·denominator] = 0" is not rejected: the very test that the
    gate makes at θ = its margin, so interval and verdict never contradict each other. None where
    the denominator is not surely away from 0, since the set is then unbounded,
    and where the ratio shows no spread at all.
    """
    from scipy.special import stdtrit

    x, y = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    of_y = t_test(y, clusters=clusters, weights=weights)
    of_x = t_test(x, clusters=clusters, weights=weights)
    groups_df = len(x) - 1 if clusters is None else int(clusters.max())
    if groups_df < 1 or float(of_y.mean) == 0:
        return None
    both = t_test(x + y, clusters=clusters, weights=weights)
    q = float(stdtrit(groups_df, (1 + level) / 2)) ** 2
    vx, vy = float(of_x.se) ** 2, float(of_y.se) ** 2
    cov = (float(both.se) ** 2 - vx - vy) / 2
    mx, my = float(of_x.mean), float(of_y.mean)
    a, b, c = my * my - q * vy, mx * my - q * cov, mx * mx - q * vx
    if a <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    if root <= 1e-9 * max(abs(b), abs(a)):
        return None
    return (b - root) / a, (b + root) / a
