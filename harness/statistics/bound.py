"""A bound that holds at any size and any alpha, for what t can't see: a drop not yet met."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.statistics.trule import Array, cluster_sums


def chernoff_below(
    values: npt.ArrayLike,
    mean: npt.ArrayLike,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Array:
    """P-value against "the mean of `values` is at least `mean`"; values (..., n) in [0, 1].

    exp(−n·KL(x̄ ‖ mean)) where x̄ < mean, else 1 (Hoeffding 1963, theorem 1): exact in its
    promise, never an approximation, for independent values of any shape. With all values 0 it is
    (1 − mean)^n, the chance of not having met an event of probability `mean` in n samples.

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
