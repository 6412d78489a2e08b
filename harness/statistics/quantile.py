"""Quantiles (p50, p95, p99), linearized so that the gate can test them like means."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import Array

TAIL = 10
"""So many values must lie on either side of a quantile before its error can be told."""


def values_needed(q: float) -> int:
    """Values with which at least `TAIL` are expected on either side of the q-quantile."""
    return math.ceil(TAIL / min(q, 1 - q) - 1e-9)


def bootstrap_error(values: npt.ArrayLike, q: float) -> float:
    """Standard error of the q-quantile of values (n,), in their unit.

    The bootstrap's, without drawing: resampling n of n gives the order statistic number k = ⌈q·n⌉
    the value x_(i) with probability I_{i/n}(k, n−k+1) − I_{(i−1)/n}(k, n−k+1), I the incomplete
    beta function (Maritz & Jarrett 1978; Efron 1979, section 3).
    """
    from scipy.special import betainc

    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    k = min(max(math.ceil(q * n - 1e-9), 1), n)
    chance = np.diff(betainc(k, n - k + 1, np.arange(n + 1) / n))
    centre = float(chance @ x)
    return math.sqrt(max(float(chance @ np.square(x - centre)), 0.0))


def quantile_values(groups: npt.ArrayLike, q: float) -> Array:
    """One value per sample whose mean is the q-quantile of all; `groups` (n, K) -> (n,).

    Q + s·(q − 1{x ≤ Q}), the first-order form of a quantile (Bahadur 1966), averaged over a
    sample's K values. The scale s is chosen so that independent values get the bootstrap's
    standard error; the signs keep what two runs of the same samples, or the samples of one
    cluster, have in common, so differences and clustered errors are those of a paired bootstrap to
    first order. Q by linear interpolation, as numpy's.
    """
    table = np.asarray(groups, dtype=float)
    whole = float(np.quantile(table, q))
    beyond = (table > whole).astype(float)
    share = float(beyond.mean())
    if not 0 < share < 1:
        return np.full(len(table), whole)
    scale = bootstrap_error(table.ravel(), q) * math.sqrt(table.size / (share * (1 - share)))
    return np.asarray(whole + scale * (beyond.mean(-1) - share))
