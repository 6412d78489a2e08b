"""From p-values to a verdict: the rule itself, over any number of trials at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.statistics.bound import betting_below, chernoff_below
from harness.statistics.multiplicity import holm
from harness.statistics.trule import Array, TTest, add_observation, few_differ, t_test

FailRule = Literal["drop", "strict"]
"""`strict`: fail only where "within the margin" is rejected. `drop`: at the last look also where
"no drop at all" is rejected and the best estimate exceeds the margin."""

FEW = 20
"""Below this many samples that differ from the commonest, t trusts a spread that it hasn't seen."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Questions:
    """The three tests of one metric; arrays of shape (...).

    margin   of z: `margin.above` is the p-value of "worse than the margin allows"
    drop     of the harm: `drop.above` is the p-value of "any drop at all"
    within   of z at the margin for PASS
    p_within the p-value of "within the margin": `within.below`, guarded where few samples differ
    guarded  whether it was
    """

    margin: TTest
    drop: TTest
    within: TTest
    p_within: Array
    guarded: Bools


def ask(
    harm: npt.ArrayLike,
    allowance: npt.ArrayLike,
    *,
    pass_allowance: npt.ArrayLike | None = None,
    worst_harm: npt.ArrayLike | None = None,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Questions:
    """Ask the three questions of harm and allowance, shape (..., n).

    `worst_harm` (shape (...)) is the largest harm that one sample could show; see `_guard`.
    `pass_allowance` replaces `allowance` for the third question (`margin: auto`).
    """
    d = np.asarray(harm, dtype=float)
    allowed = np.asarray(allowance, dtype=float)
    for_pass = allowed if pass_allowance is None else np.asarray(pass_allowance, dtype=float)
    margin = t_test(d - allowed, clusters=clusters, weights=weights)
    drop = t_test(d, clusters=clusters, weights=weights)
    within = margin
    if pass_allowance is not None:
        within = t_test(d - for_pass, clusters=clusters, weights=weights)
    guarded = np.zeros(d.shape[:-1], dtype=bool)
    p_within = within.below
    if worst_harm is not None:
        guarded = few_differ(d, FEW, clusters=clusters)
        guarded |= few_differ(d - for_pass, FEW, clusters=clusters)
        if guarded.any():
            worst = np.broadcast_to(np.asarray(worst_harm, dtype=float), guarded.shape)[guarded]
            room = np.broadcast_to(for_pass, d.shape)[guarded]
            p = _guard(d[guarded], room, worst, clusters, weights)
            p_within = np.array(p_within)
            p_within[guarded] = np.maximum(p_within[guarded], p)
    return Questions(margin, drop, within, p_within, guarded)


def _guard(
    harm: Array,
    allowance: Array,
    worst: Array,
    clusters: npt.NDArray[np.intp] | None,
    weights: npt.ArrayLike | None,
) -> Array:
    """P-value of "within the margin" where t would trust a spread that it has hardly seen.

    The larger of two. One more sample at the worst possible z: without it a ceiling of 60 perfect
    anchors passes a true −5% in 19% of trials. And a bound that needs no spread at all: with that
    one sample t is still too sure below .01 or so, where looks and trainings spend their alpha,
    since 100 perfect answers are no better evidence than .95^100 = .006. The bound is Hoeffding's
    or a bet's, whichever says more; they share alpha 19 to 1.
    """
    w: Any = None if weights is None else np.asarray(weights, dtype=float)
    room = np.average(allowance, axis=-1, weights=w)
    extra = add_observation(
        harm - allowance, worst - allowance.min(-1), clusters=clusters, weights=weights
    ).below
    bounded = (room > 0) & (worst > room)
    if not bounded.any():
        return extra
    scale = np.where(bounded, worst, 1.0)
    target = np.where(bounded, room, 0.5)
    share = np.clip(harm / scale[..., None], 0.0, 1.0)
    hoeffding = chernoff_below(share, target / scale, clusters=clusters, weights=weights)
    bet = betting_below(
        np.minimum(harm, scale[..., None]), target, scale, clusters=clusters, weights=weights
    )
    bound = np.minimum(np.minimum(hoeffding / 0.95, bet / 0.05), 1.0)
    return np.asarray(np.where(bounded, np.maximum(extra, bound), extra))


@dataclass(frozen=True, slots=True)
class Decisions:
    """Per metric, shape (..., M): which arm fired, and Holm's adjusted p-values."""

    strict: Bools
    drop: Bools
    passed: Bools
    p_strict: Array
    p_drop: Array

    @property
    def failed(self) -> Bools:
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

    strict: Holm rejects E[z] ≤ 0. drop: at the last look Holm rejects "no drop at all" and the
    mean z is above 0. passed: E[z] ≥ 0 is rejected at alpha, each metric by itself, because PASS
    needs all of them (intersection-union: Berger 1982).
    """
    adjusted, adjusted_drop = holm(p_strict), holm(p_drop)
    strict = adjusted <= alpha
    over: Any = np.asarray(mean_z, dtype=float) > 0
    drop = (adjusted_drop <= alpha) & over & (last and fail_rule == "drop")
    passed = (np.asarray(p_pass, dtype=float) <= alpha) & ~strict & ~drop
    return Decisions(strict, drop, passed, adjusted, adjusted_drop)
