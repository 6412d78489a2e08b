"""From p-values to a verdict, over any number of simulated trials at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.types import FailRule
from harness.statistics import rare_events as guard
from harness.statistics.multiplicity import holm
from harness.statistics.rare_events import Range
from harness.statistics.student_t import Array, TTest, fixed_set_test, t_test

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Questions:
    """The three one-sided tests of one metric; arrays of shape (...).

    margin, drop, within   the t-tests of z, of the harm, and of z at the margin for PASS
    p_worse   p-value of "worse than the margin allows": E[z] ≤ 0 is rejected where it is small
    p_drop    p-value of "there is a drop": E[harm] ≤ 0 is rejected
    p_within  p-value of "within the margin": E[z] ≥ 0 is rejected
    guarded   whether few samples differ, so that p_within isn't t's alone
    """

    margin: TTest
    drop: TTest
    within: TTest
    p_worse: Array
    p_drop: Array
    p_within: Array
    guarded: Bools


def ask(
    harm: npt.ArrayLike,
    allowance: npt.ArrayLike,
    *,
    pass_allowance: npt.ArrayLike | None = None,
    known: Range | None = None,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Questions:
    """Test harm against allowance in the three ways of `Questions`; both of shape (..., n).

    pass_allowance   replaces `allowance` in the third test (`margin: auto`)
    known            the metric's range. With it, p-values are corrected where few samples differ
                     (rare_events.py); without it all are Student's t's
    clusters         a code of 0..G−1 for each sample, shape (n,)
    weights          shape (n,)
    """
    d = np.asarray(harm, dtype=float)
    allowed = np.broadcast_to(np.asarray(allowance, dtype=float), d.shape)
    for_pass = allowed
    if pass_allowance is not None:
        for_pass = np.broadcast_to(np.asarray(pass_allowance, dtype=float), d.shape)
    margin = t_test(d - allowed, clusters=clusters, weights=weights)
    drop = t_test(d, clusters=clusters, weights=weights)
    within = margin
    if pass_allowance is not None:
        within = t_test(d - for_pass, clusters=clusters, weights=weights)
    p_worse, p_drop, p_within = margin.above, drop.above, within.below
    guarded = np.zeros(d.shape[:-1], dtype=bool)
    if known is not None:
        w = None if weights is None else np.asarray(weights, dtype=float)
        guarded = guard.harm_is_rare(d, for_pass, known, clusters)
        if guarded.any():
            worst = known.worst_harm[guarded]
            p = guard.p_unseen_harm(d[guarded], for_pass[guarded], worst, clusters, w)
            p_within = guard.instead(p_within, guarded, p)
        # Unseen harms would make PASS too easy, unseen gains FAIL.
        rare = guard.gain_is_rare(known, clusters)
        if rare.any():
            room = np.average(allowed[rare], axis=-1, weights=w)
            gain = known.best_gain[rare]
            p = guard.p_unseen_gain(d[rare], room, gain, clusters, w)
            p_worse = guard.instead(p_worse, rare, np.maximum(p_worse[rare], p))
            p = guard.p_unseen_gain(d[rare], np.zeros_like(room), gain, clusters, w)
            p_drop = guard.instead(p_drop, rare, np.maximum(p_drop[rare], p))
    return Questions(margin, drop, within, p_worse, p_drop, p_within, guarded)


def ask_fixed_set(
    harm: npt.ArrayLike,
    allowance: npt.ArrayLike,
    variance_harm: npt.ArrayLike,
    variance_z: npt.ArrayLike,
    *,
    pass_allowance: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Questions:
    """The three tests for these samples only (`fixed_set`); shapes (n,).

    The variances are those of each sample's harm and z over fresh responses, in the metric's unit
    squared: var(a) + var(c) for the harm, and (1−δ)²·var(a) + var(c) for z = (1−δ)·a − c − ε.
    """
    d, allowed = np.asarray(harm, dtype=float), np.asarray(allowance, dtype=float)
    for_pass = allowed if pass_allowance is None else np.asarray(pass_allowance, dtype=float)
    margin = fixed_set_test(d - allowed, variance_z, weights=weights)
    drop = fixed_set_test(d, variance_harm, weights=weights)
    within = fixed_set_test(d - for_pass, variance_z, weights=weights)
    plain = np.zeros(d.shape[:-1], dtype=bool)
    return Questions(margin, drop, within, margin.above, drop.above, within.below, plain)


@dataclass(frozen=True, slots=True)
class Decisions:
    """For each of M metrics, shape (..., M): what was decided, and Holm's adjusted p-values.

    `strict` and `drop` are the two ways to fail (see `apply_rule`), `passed` is neither of them.
    """

    strict: Bools
    drop: Bools
    passed: Bools
    p_strict: Array
    p_drop: Array

    @property
    def failed(self) -> Bools:
        """Whether a metric fails by either arm, shape (..., M)."""
        return np.asarray(self.strict | self.drop)


def apply_rule(
    p_strict: npt.ArrayLike,
    p_drop: npt.ArrayLike,
    p_pass: npt.ArrayLike,
    mean_z: npt.ArrayLike,
    *,
    alpha: float,
    last: bool = True,
    fail_rule: FailRule = "drop",
) -> Decisions:
    """The verdict rule over M gated metrics, arrays of shape (..., M); alpha is this look's.

    strict   Holm rejects E[z] ≤ 0: the drop is shown to exceed the margin
    drop     at the last look, Holm rejects E[harm] ≤ 0 and the mean z is above 0: there is a drop,
             and its best estimate exceeds the margin
    passed   E[z] ≥ 0 is rejected at alpha

    Why two ways to fail: `strict` alone needs far more samples. A drop of 10% with 1,000 samples
    of 4 responses is caught in .77 of cases by it and in .999 by both. The price is that `drop` is
    only guaranteed against no drop: at a drop of exactly the margin it fails half the time.

    Why no correction for `passed`: a run passes only if every required metric does, so a wrong PASS
    needs at least one wrong rejection at alpha (intersection-union test; Berger 1982).
    """
    adjusted, adjusted_drop = holm(p_strict), holm(p_drop)
    strict = adjusted <= alpha
    over: Any = np.asarray(mean_z, dtype=float) > 0
    drop = (adjusted_drop <= alpha) & over & (last and fail_rule == "drop")
    passed = (np.asarray(p_pass, dtype=float) <= alpha) & ~strict & ~drop
    return Decisions(strict, drop, passed, adjusted, adjusted_drop)
