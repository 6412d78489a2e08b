"""Bounds for rare drops that hold at any sample size, where t does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import Array, cluster_sums


def chernoff_below(
    values: npt.ArrayLike,
    mean: npt.ArrayLike,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Array:
    """P-value against "the mean of `values` is at least `mean`"; values (..., n) in [0, 1].

    exp(−n·KL(x̄ ‖ mean)) where x̄ < mean, else 1 (Hoeffding 1963, theorem 1). It holds at any n, for
    independent values of any distribution. With all values 0 it is (1 − mean)^n, the chance of not
    seeing an event of probability `mean` in n samples.

    n is the number of clusters as far as they weigh the same: (Σw)²/Σw² over the clusters.
    """
    from scipy.special import rel_entr

    x = np.asarray(values, dtype=float)
    w: Any = np.ones(x.shape[-1]) if weights is None else np.asarray(weights, dtype=float)
    sizes = w if clusters is None else cluster_sums(w, clusters)
    n = sizes.sum() ** 2 / np.square(sizes).sum()
    q = np.clip(np.asarray(mean, dtype=float), 0.0, 1.0)
    seen = np.clip((x * w).sum(-1) / w.sum(), 0.0, 1.0)
    distance = rel_entr(seen, q) + rel_entr(1 - seen, 1 - q)
    return np.asarray(np.where(seen < q, np.exp(-n * distance), 1.0))


STAKES = 10
"""How many stakes λ are averaged: from a tenth of the largest one to all of it."""


def betting_below(
    values: npt.ArrayLike,
    mean: npt.ArrayLike,
    largest: npt.ArrayLike,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Array:
    """P-value against "the mean of `values` is at least `mean`"; values (..., n) ≤ `largest`.

    One over the average of Π(1 − λ(x_i − mean)) over stakes λ up to 1/(largest − mean). Each
    product is what a gambler who starts with 1 ends with after betting λ on every value being below
    `mean`. If the claim holds its expectation is at most 1 (Waudby-Smith & Ramdas 2024; where means
    differ between samples, by the inequality of arithmetic and geometric means), so by Markov's
    inequality its inverse is a p-value. Values need no lower bound, so large improvements count in
    full. `mean` < `largest`; both have shape (...).
    """
    x = np.asarray(values, dtype=float)
    m = np.asarray(mean, dtype=float)[..., None]
    steps = x - m
    if weights is not None:
        steps = steps * np.asarray(weights, dtype=float)
    sizes: Any = np.ones(x.shape[-1]) if weights is None else np.asarray(weights, dtype=float)
    if clusters is not None:
        steps, sizes = cluster_sums(steps, clusters), cluster_sums(sizes, clusters)
    # The largest stake that no single value (or cluster) can turn into a debt.
    reach = (np.asarray(largest, dtype=float)[..., None] - m) * sizes.max()
    with np.errstate(divide="ignore"):
        wins = [
            np.log(np.maximum(1 - stake / STAKES * steps / reach, 0.0)).sum(-1)
            for stake in range(1, STAKES + 1)
        ]
    # Products of many factors overflow, so the average is taken relative to the largest of them.
    highest = np.maximum(np.max(wins, axis=0), 0.0)
    average = np.exp(np.array(wins) - highest).mean(0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(np.exp(-highest - np.log(average)), 1.0))
