"""Quantiles (p50, p95, p99), linearized so that the gate can test them like means."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import Array

TAIL = 10
"""So many values must lie on either side of a quantile before its error can be estimated."""


def values_needed(q: float) -> int:
    """Values with which at least `TAIL` are expected on either side of the q-quantile."""
    return math.ceil(TAIL / min(q, 1 - q) - 1e-9)


def bootstrap_error(values: npt.ArrayLike, q: float) -> float:
    """Standard error of the q-quantile of values (n,), in their unit.

    What the bootstrap would give after infinitely many draws, computed exactly: in a resample of n
    of n values, the k-th smallest, k = ⌈q·n⌉, equals x_(i) with probability
    I_{i/n}(k, n−k+1) − I_{(i−1)/n}(k, n−k+1), I the incomplete beta function (Maritz & Jarrett
    1978; Efron 1979, section 3).
    """
    from scipy.special import betainc

    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    k = min(max(math.ceil(q * n - 1e-9), 1), n)
    # The k-th smallest of a resample is at most x_(i) where at least k of its n draws are among
    # the i smallest values: a binomial tail with p = i/n, which is I_{i/n}(k, n − k + 1).
    chance = np.diff(betainc(k, n - k + 1, np.arange(n + 1) / n))
    center = float(chance @ x)
    return math.sqrt(max(float(chance @ np.square(x - center)), 0.0))


def quantile_values(groups: npt.ArrayLike, q: float) -> Array:
    """One value per sample whose mean is the q-quantile of all; `groups` (n, K) -> (n,).

    A quantile isn't a mean, so it is replaced by its linear approximation (Bahadur 1966):
    Q + s·(1{x > Q} − share above Q), averaged over a sample's K values. Q by linear interpolation,
    as numpy's; where all values are on one side of it, all of the result is Q.

    The scale s is chosen so that independent values get the bootstrap's standard error. Which
    samples are above Q is kept, so what two runs of the same samples have in common, or the
    samples of one cluster, still cancels or adds up in differences and clustered errors.
    """
    table = np.asarray(groups, dtype=float)
    whole = float(np.quantile(table, q))
    beyond = (table > whole).astype(float)
    share = float(beyond.mean())
    if not 0 < share < 1:
        return np.full(len(table), whole)
    # An indicator with mean p has the standard error √(p(1−p)/n); s makes it the bootstrap's.
    scale = bootstrap_error(table.ravel(), q) * math.sqrt(table.size / (share * (1 - share)))
    return np.asarray(whole + scale * (beyond.mean(-1) - share))
