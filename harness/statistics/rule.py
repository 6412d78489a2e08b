"""From p-values to a verdict: the rule itself, over any number of trials at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.statistics.multiplicity import holm
from harness.statistics.trule import Array, TTest, add_observation, differing, t_test

FailRule = Literal["drop", "strict"]
"""`strict`: fail only where "within the margin" is rejected. `drop`: at the last look also where
"no drop at all" is rejected and the best estimate exceeds the margin."""

FEW = 20
"""Below this many samples that differ from the commonest, t trusts a spread that it hasn't seen."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Questions:
    """The three tests of one metric; arrays of shape (...).

    margin  of z: `margin.above` is the p-value of "worse than the margin allows"
    drop    of the harm: `drop.above` is the p-value of "any drop at all"
    within  of z, guarded: `within.below` is the p-value of "within the margin"
    guarded whether the pseudo-sample was added
    """

    margin: TTest
    drop: TTest
    within: TTest
    guarded: Bools


def ask(
    harm: npt.ArrayLike,
    allowance: npt.ArrayLike,
    *,
    pass_allowance: npt.ArrayLike | None = None,
    worst: npt.ArrayLike | None = None,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> Questions:
    """Ask the three questions of harm and allowance, shape (..., n).

    `worst` is the metric's worst possible harm minus its allowance. Where fewer than 20 samples
    differ from the commonest (in z, or in harm, whichever is fewer), the test for PASS gets
    one more sample with that value: the drop that has not been seen yet. Without it a ceiling of
    60 perfect anchors passes a true −5% in 19% of trials.

    `pass_allowance` replaces `allowance` for the third question (`margin: auto`).
    """
    d = np.asarray(harm, dtype=float)
    z = d - np.asarray(allowance, dtype=float)
    z_pass = z if pass_allowance is None else d - np.asarray(pass_allowance, dtype=float)
    margin = t_test(z, clusters=clusters, weights=weights)
    drop = t_test(d, clusters=clusters, weights=weights)
    within = margin if z_pass is z else t_test(z_pass, clusters=clusters, weights=weights)
    moving = np.minimum(differing(z_pass, clusters=clusters), differing(d, clusters=clusters))
    guarded = np.asarray((moving < FEW) & (worst is not None))
    if worst is not None and guarded.any():
        extra = add_observation(z_pass, worst, clusters=clusters, weights=weights)
        within = TTest(
            within.mean,
            *(
                np.where(guarded, getattr(extra, name), getattr(within, name))
                for name in ("se", "t", "df")
            ),
        )
    return Questions(margin, drop, within, guarded)


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
