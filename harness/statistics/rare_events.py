"""Student's t where few samples differ: the extra check that it needs.

t judges a mean by the spread in the sample. Where an event is so rare that few samples or none
show it, most of that spread is missing, and the p-value is far too small. Two examples:

- 60 right answers before and 60 after show no spread at all, so t would rule out a drop of 5%
  beyond doubt. But a model that is right in 95% of cases gives 60 right answers with chance
  .95^60 = .046.
- An anchor that is right in 1% of many responses a sample has values near .01; a candidate with
  one response a sample has 0 nearly everywhere and 1 here and there. If no 1 came up, every
  sample looks slightly worse, although nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import Array, add_observation, cluster_sums, few_differ
from harness.statistics.tail_bounds import betting_below, chernoff_below

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp] | None

FEW = 20
"""With fewer samples than this that show an event, the estimate of its frequency is too rough."""
MOST_RESPONSES = 16
"""Up to this many responses per sample are recognized by the values that they can average to."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values of a metric that is bounded, and how far one sample could move.

    anchor, candidate  values of shape (..., n), larger is better (negate where it isn't)
    worst_harm         the largest harm that one sample could show, shape (...), in the metric's
                       unit; 0 where the anchor is at the worst end already
    best_gain          the largest gain that one sample could show, shape (...), likewise
    """

    anchor: Array
    candidate: Array
    worst_harm: Array
    best_gain: Array

    @classmethod
    def of(cls, anchor: Array, candidate: Array, worst_harm: float, best_gain: float) -> Range:
        """The same with one `worst_harm` and one `best_gain` for all trials."""
        shape = anchor.shape[:-1]
        return cls(anchor, candidate, np.full(shape, worst_harm), np.full(shape, best_gain))


def few(shows: Bools, clusters: Codes) -> Bools:
    """Whether fewer than 20 samples (or clusters) show an event; `shows` has shape (..., n)."""
    seen = shows if clusters is None else cluster_sums(shows.astype(float), clusters) > 0
    return np.asarray(seen.sum(-1) < FEW)


def harm_is_rare(harm: Array, allowance: Array, known: Range, clusters: Codes) -> Bools:
    """Whether harm is too rare for t: shape (...), harm and allowance of shape (..., n).

    True where fewer than 20 samples differ from the commonest value, of the harm or of z, or fewer
    than 20 of the candidate's answers fall short of the best of them.
    """
    # Harm and z are both looked at: with an allowance that differs by sample, z may vary although
    # no answer changed, and the other way round.
    rare = few_differ(harm, FEW, clusters=clusters)
    rare |= few_differ(harm - allowance, FEW, clusters=clusters)
    best = known.candidate.max(-1, keepdims=True)
    return np.asarray(rare | few(known.candidate < best, clusters))


def p_unseen_harm(
    harm: Array, allowance: Array, worst: Array, clusters: Codes, weights: Array | None
) -> Array:
    """P-value for PASS ("E[z] ≥ 0" is rejected) that allows for harm not yet seen; shape (trials,).

    harm, allowance  shape (trials, n), in the metric's unit
    worst            shape (trials,): the largest harm that one sample could show

    The larger of two p-values: t with one more sample at the worst possible z, and a bound that
    needs no spread.

    Why one more sample: let n samples have z = −r and the added one W − r (W the worst harm). Then
    t = (W − (n+1)·r) / W, and t ≤ −q where r/W ≥ (1 + q)/(n + 1). At alpha = .05, q = 1.645, so a
    harm that was not seen may still have a frequency up to 2.6/n; exact is 3/n, from
    (1 − r/W)^n = .05.

    Why a bound as well: at the small alphas of looks and trainings that approximation is too
    sure. For 100 perfect answers and a margin of 5% it gives p = 5e-5, but a model that is right
    in 95% of cases gives them with chance .95^100 = .006.
    """
    room = np.average(allowance, axis=-1, weights=weights)
    # By t alone, without Hall's transformation: the skewness here is mostly the added sample's.
    extra = add_observation(
        harm - allowance, worst - allowance.min(-1), clusters=clusters, weights=weights
    ).below_by_t
    # Where the allowance covers even the worst harm there is nothing to bound.
    bounded = (worst > 0) & (worst > room)
    scale, target = np.where(bounded, worst, 1.0), np.where(bounded, room, 0.5)
    capped = np.minimum(harm, scale[..., None])
    bet = betting_below(capped, target, scale, clusters=clusters, weights=weights)
    share = np.clip(harm / scale[..., None], 0.0, 1.0)
    hoeffding = chernoff_below(share, target / scale, clusters=clusters, weights=weights)
    # Two bounds share alpha 19 to 1 (a union bound, so the smaller one counts). Hoeffding's is
    # sharp where nearly nothing changed, but takes gains for 0; the bet counts them in full. With
    # no room at all, which is how a proven improvement is tested, only gains can speak.
    both = np.minimum(np.minimum(hoeffding / 0.95, bet / 0.05), 1.0)
    bound = np.where(target > 0, both, bet)
    return np.asarray(np.where(bounded, np.maximum(extra, bound), extra))


def gain_is_rare(known: Range, clusters: Codes) -> Bools:
    """Whether gains are too rare for t: shape (...).

    True where fewer than 20 of the candidate's answers are better than its worst, and the anchor's
    values come from more responses than the candidate's.

    With as many responses behind both, an unchanged model's differences are symmetric and t is
    right about them. With more behind the anchor, its values lie a little above 0 everywhere and
    the candidate's at 0 with a rare 1: most differences are small harms, and the few large gains
    that balance them may not have come up.
    """
    worst = known.candidate.min(-1, keepdims=True)
    rare = few(known.candidate > worst, clusters)
    uneven = np.zeros_like(rare)
    uneven[rare] = _finer(known.anchor[rare], known.candidate[rare])
    return np.asarray(rare & uneven)


def p_unseen_gain(
    harm: Array, room: Array, gain: Array, clusters: Codes, weights: Array | None
) -> Array:
    """P-value for FAIL ("mean harm is at most `room`" is rejected) that allows for unseen gains.

    harm of shape (trials, n), `room` and `gain` (the largest gain of one sample) of shape
    (trials,), in the metric's unit. A betting bound (`betting_below`) on the gains −harm, which
    are at most `gain` and, by the claim, at least −room on average.
    """
    reach = np.maximum(gain, np.finfo(float).tiny)
    gains = np.minimum(-harm, reach[..., None])
    return betting_below(gains, -room, reach, clusters=clusters, weights=weights)


def instead(p: Array, where: Bools, other: Array) -> Array:
    """`p` with its entries at `where` replaced, one value for each of them."""
    changed: Any = np.array(p)
    changed[where] = other
    return np.asarray(changed)


def _finer(anchor: Array, candidate: Array) -> Bools:
    """Whether the anchor has values that the candidate's number of responses can't average to.

    (trials, n) each. How many responses there were isn't known here, so it is read off the
    values: the fewest k, up to 16, for which all of the candidate's are multiples of 1/k.
    """
    open_ = np.ones(anchor.shape[0], dtype=bool)
    finer = np.zeros(anchor.shape[0], dtype=bool)
    for k in range(1, MOST_RESPONSES + 1):
        fits = open_ & _on_grid(candidate, k)
        finer[fits] = ~_on_grid(anchor[fits], k)
        open_ &= ~fits
    return finer


def _on_grid(values: Array, k: int) -> Bools:
    steps = values * k
    return np.asarray((np.abs(steps - np.round(steps)) < 1e-9).all(-1))
