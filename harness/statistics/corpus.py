"""Metrics that are no means (corpus BLEU, macro-F1): jackknife pseudo-values make them so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.statistics.trule import Array, cluster_sums

Aggregate = Callable[[Array], float]
"""From summed statistics, shape (k,), to the metric's value."""


def bleu(sums: Array) -> float:
    """Corpus BLEU in [0, 100] from (sys_len, ref_len, correct_1..4, total_1..4), no smoothing.

    Papineni et al. 2002; 0 where an order has no match.
    """
    system, reference = sums[0], sums[1]
    orders = (len(sums) - 2) // 2
    correct, total = sums[2 : 2 + orders], sums[2 + orders :]
    if system <= 0 or (correct <= 0).any() or (total <= 0).any():
        return 0.0
    brevity = 1.0 if system >= reference else math.exp(1 - reference / system)
    return float(100 * brevity * math.exp(np.log(correct / total).mean()))


def f1_macro(sums: Array) -> float:
    """Mean F1 over classes, [0, 1], from (tp, fp, fn) per class, flattened.

    A class that neither occurs nor is predicted is left out.
    """
    tp, fp, fn = sums.reshape(-1, 3).T
    seen = 2 * tp + fp + fn
    used = seen > 0
    return float((2 * tp[used] / seen[used]).mean()) if used.any() else 0.0


def ratio(sums: Array) -> float:
    """Σ numerator / Σ denominator: rates per word, micro-averages. 0 where nothing was counted."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0


AGGREGATES: Mapping[str, Aggregate] = {"bleu": bleu, "f1_macro": f1_macro, "ratio": ratio}


def pseudo_values(
    aggregate: str | Aggregate | None,
    stats: npt.ArrayLike,
    clusters: npt.NDArray[np.intp] | None = None,
) -> Array:
    """One value per sample whose mean is the corpus value and whose spread gives its jackknife SE.

    `stats` has shape (n, k). With θ the value of all and θ_(−g) that without cluster g,
    ψ_g = θ + (G−1)(θ̄_(−) − θ_(−g)): Tukey's pseudo-values, centred on θ itself. Within a cluster
    ψ_g is spread so that the clustered standard error is the delete-a-cluster jackknife's
    (Efron & Stein 1981). Raises UserError for an aggregate that nobody registered.
    """
    f = AGGREGATES.get(aggregate) if isinstance(aggregate, str) else aggregate
    if f is None:
        raise UserError(
            f"nothing is known that makes a corpus value of {aggregate!r}",
            field="aggregate",
            cure=f"use one of: {', '.join(AGGREGATES)}",
        )
    table = np.asarray(stats, dtype=float)
    n = len(table)
    codes = np.arange(n) if clusters is None else clusters
    groups = int(codes.max()) + 1
    sums = cluster_sums(table.T, codes).T
    total = sums.sum(0)
    whole = f(total)
    if groups < 2:
        return np.full(n, whole)
    without = np.array([f(total - part) for part in sums])
    away = (groups - 1) * (without.mean() - without)
    sizes = np.bincount(codes, minlength=groups)
    return np.asarray(whole + away[codes] * n / (groups * sizes[codes]))
