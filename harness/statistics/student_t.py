"""Student's t over samples or clusters: the gate's test statistic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MANY = 10**6
"""Degrees of freedom that stand for a normal distribution."""
FLAT = 1e-12
"""Relative differences below this are rounding errors, and count as no difference."""


@dataclass(frozen=True, slots=True)
class TTest:
    """Mean, its standard error, t, degrees of freedom and the sample's skewness; shape (...).

    `above` is the one-sided p-value against E[z] ≤ 0, `below` the one against E[z] ≥ 0. In a skewed
    sample t is too sure of the side away from the long tail (with rare large harms: of PASS; with
    rare large gains: of FAIL). There Hall's transformation moves t towards 0; it is never used to
    make a claim stronger.
    """

    mean: Array
    se: Array
    t: Array
    df: Array
    skew: Array

    @property
    def above(self) -> Array:
        """One-sided p-value against E[z] ≤ 0: small where the mean is shown to be above 0."""
        return _tail(np.minimum(self.t, self._hall()) * -1, self.df)

    @property
    def below(self) -> Array:
        """One-sided p-value against E[z] ≥ 0: small where the mean is shown to be below 0."""
        return _tail(np.maximum(self.t, self._hall()), self.df)

    @property
    def below_by_t(self) -> Array:
        """`below` by t alone, whatever the skewness."""
        return _tail(self.t, self.df)

    def _hall(self) -> Array:
        """Hall's t + γ/(3√n)·t² + γ²/(27n)·t³ + γ/(6√n) for skewness γ (1992, monotone).

        `above` and `below` use it only where it makes their claim weaker.
        """
        # With a = γ/(3√n) the last two terms are a²·t³/3 and a/2. df + 1 is the number of clusters.
        a = self.skew / (3 * np.sqrt(np.maximum(self.df, 1) + 1))
        return np.asarray(self.t + a * self.t**2 + a**2 * self.t**3 / 3 + a / 2)


def _tail(t: Array, df: Array) -> Array:
    """P(T ≤ t), and 1 where there are no degrees of freedom."""
    from scipy.special import stdtr

    return np.asarray(np.where(df > 0, stdtr(np.maximum(df, 1), t), 1.0))


def cluster_sums(values: Array, clusters: npt.NDArray[np.intp]) -> Array:
    """Sum of `values` (..., n) within each cluster, shape (..., G).

    `clusters` holds a code of 0..G−1 for each sample, shape (n,), and no code is left out.
    """
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))


def t_test(
    z: npt.ArrayLike,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> TTest:
    """Test the weighted mean of z, shape (..., n), with clusters − 1 degrees of freedom.

    Samples of one cluster aren't independent, so the number of independent observations is that of
    the clusters, not of the samples; hence the degrees of freedom.

    With e_g the summed weighted residuals of cluster g and W the total weight,
    se² = G/(G−1) · Σ e_g² / W²: the ordinary standard error where every sample is its own
    cluster, and the CR1 "sandwich" otherwise (Liang & Zeger 1986; Cameron & Miller 2015, eq. 11).

    Where all z agree the standard error is 0 and t would be infinite. One more observation at −z̄
    is then assumed, which gives t = ±(G−1)/2 with G degrees of freedom: six agreeing samples count
    about as much as in a sign test, and two never decide anything. With fewer than two clusters df
    is 0 and both p-values are 1.
    """
    z = np.asarray(z, dtype=float)
    n = z.shape[-1]
    w: Any = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    total = w.sum()
    mean: Any = (z * w).sum(-1) / total if weights is not None else z.mean(-1)
    residuals = w * (z - mean[..., None])
    if clusters is not None:
        residuals = cluster_sums(residuals, clusters)
    groups = residuals.shape[-1]
    if groups < 2:
        nothing = np.zeros_like(mean)
        return TTest(mean, np.full_like(mean, np.inf), nothing, nothing, nothing)
    squares = np.square(residuals)
    spread = squares.sum(-1)
    se = np.sqrt(groups / (groups - 1) * spread) / total
    flat = se <= FLAT * np.abs(mean)
    t = np.where(flat, np.sign(mean) * (groups - 1) / 2, mean / np.where(flat, 1.0, se))
    df = np.where(flat, float(groups), groups - 1.0)
    skew = np.where(flat, 0.0, groups**0.5 * _third_moment(residuals, squares, flat))
    return TTest(mean, np.where(flat, 0.0, se), t, df, skew)


def _third_moment(residuals: Array, squares: Array, flat: npt.NDArray[np.bool_]) -> Array:
    """Σ r³ / (Σ r²)^1.5 over the last axis; without meaning where `flat`."""
    cubes = np.asarray(np.einsum("...i,...i->...", squares, residuals))
    size = np.asarray(np.where(flat, 1.0, squares.sum(-1)) ** 1.5)
    # The cubes of values below 1e-103 or so are too small for a float and come out as 0. Skewness
    # doesn't depend on the unit, so it is computed of the same values in a larger one.
    tiny = size < np.finfo(float).tiny
    if tiny.any():
        small = residuals[tiny] / np.abs(residuals[tiny]).max(-1, keepdims=True)
        cubes[tiny] = np.power(small, 3).sum(-1)
        size[tiny] = np.square(small).sum(-1) ** 1.5
    return np.asarray(cubes / size)


def fixed_set_test(
    z: npt.ArrayLike, variance: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> TTest:
    """Test the mean of z, shape (n,), for these samples only; nothing is claimed about others.

    The samples are fixed and only the responses to them are random: `variance`, shape (n,), is that
    of each z over fresh responses, and se² = Σ w²·variance / W². The test is a normal one, because
    the degrees of freedom are those of all the responses. Where every variance is 0 both p-values
    are 1 (df 0).
    """
    z, v = np.asarray(z, dtype=float), np.asarray(variance, dtype=float)
    w: Any = np.ones(z.shape[-1]) if weights is None else np.asarray(weights, dtype=float)
    mean = np.asarray((z * w).sum(-1) / w.sum())
    se = np.asarray(np.sqrt((v * w**2).sum(-1)) / w.sum())
    known = se > 0
    t = np.where(known, mean / np.where(known, se, 1.0), 0.0)
    df = np.where(known, float(MANY), 0.0)
    return TTest(mean, se, t, df, np.zeros_like(mean))


def add_observation(
    z: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> TTest:
    """`t_test` after one more observation: a cluster of its own, with the average weight.

    z has shape (..., n), `value` shape (...) or ().
    """
    z = np.asarray(z, dtype=float)
    extra = np.broadcast_to(np.asarray(value, dtype=float), z.shape[:-1])[..., None]
    more = np.concatenate([z, extra], axis=-1)
    codes = None if clusters is None else np.append(clusters, clusters.max() + 1)
    w = None if weights is None else np.append(weights, np.asarray(weights, dtype=float).mean())
    return t_test(more, clusters=codes, weights=w)


def few_differ(
    values: npt.ArrayLike, few: int, *, clusters: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.bool_]:
    """Whether fewer than `few` samples (or clusters) differ from the commonest value; shape (...).

    Values, shape (..., n), differ where they do within 12 digits of the largest, so that rounding
    errors don't count. A cluster differs where one of its samples does.
    """
    values = np.asarray(values, dtype=float)
    tolerance = FLAT * np.abs(values).max(-1, keepdims=True)
    unlike = np.abs(values - _common(values, few, clusters is None)[..., None]) > tolerance
    if clusters is not None:
        unlike = cluster_sums(unlike.astype(float), clusters) > 0
    return np.asarray(unlike.sum(-1) < few)


def _common(values: Array, few: int, one_each: bool) -> Array:
    """The commonest value along the last axis, as far as `few_differ` needs it.

    If fewer than `few` samples differ from it, it is the majority among any 2·few − 1 of them,
    and so their median: there is no need to sort the rest. If more differ, any value will do,
    because then `few_differ` says no whichever it is.
    """
    enough = 2 * few - 1
    if one_each and values.shape[-1] >= enough:
        head = np.partition(values[..., :enough], few - 1, axis=-1)
        return np.asarray(head[..., few - 1])
    # Otherwise the longest run of equal values in sorted order.
    ordered = np.sort(values, axis=-1)
    index = np.arange(ordered.shape[-1])
    tolerance = FLAT * np.abs(ordered).max(-1, keepdims=True)
    starts = np.ones(ordered.shape, dtype=bool)
    starts[..., 1:] = ordered[..., 1:] - ordered[..., :-1] > tolerance
    run = index - np.maximum.accumulate(np.where(starts, index, 0), axis=-1)
    longest = np.argmax(run, axis=-1)
    return np.asarray(np.take_along_axis(ordered, longest[..., None], axis=-1)[..., 0])
