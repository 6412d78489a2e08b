"""Holm's step-down correction over metrics, along the last axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def holm(p: npt.ArrayLike) -> Array:
    """Adjusted p-values (Holm 1979) over the last axis, shape (..., M).

    Hypothesis m is rejected at alpha where its adjusted value is ≤ alpha; the chance of any
    false rejection is then at most alpha, whatever the dependence between the metrics.
    """
    p = np.asarray(p, dtype=float)
    count = p.shape[-1]
    if count == 0:
        return p.copy()
    order = np.argsort(p, axis=-1, kind="stable")
    # The smallest p is multiplied by M, the next by M − 1, and so on. The running maximum keeps a
    # larger p from being rejected before a smaller one; it also gives equal p-values the same
    # adjusted value, whichever of them the sort put first.
    stepped = np.take_along_axis(p, order, axis=-1) * np.arange(count, 0, -1)
    stepped = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, stepped, axis=-1)
    return adjusted
