"""Student's t where few samples differ: the extra check that it needs.

t judges a mean by the spread in the sample. Where an event is so rare that few samples or none
show it, that spread is missing, and t is sure of too much: 60 perfect anchors and 60 perfect
answers leave "−5%" no room at all, though .95^60 = .046; and against an anchor that was
scored with 64 responses, a single right answer in a hundred is either there or isn't.
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
"""Below this many samples that show an event, its frequency is guesswork."""
GRAINS = 16
"""Up to this many responses per sample are recognised by the values that they can average to."""


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of a bounded metric.

    anchor, candidate  values of shape (..., n), larger is better (negate where it isn't)
    worst_harm         the largest harm that one sample could show, shape (...)
    best_gain          the largest gain that one sample could show, shape (...)
    """

    anchor: Array
    candidate: Array
    worst_harm: Array
    best_gain: Array

    @classmethod
    def of(cls, anchor: Array, candidate: Array, worst_harm: float, best_gain: float) -> Range:
        shape = anchor.shape[:-1]
        return cls(anchor, candidate, np.full(shape, worst_harm), np.full(shape, best_gain))


def few(shows: Bools, clusters: Codes) -> Bools:
    """Whether fewer than 20 samples (or clusters) show an event; `shows` has shape (..., n)."""
    seen = shows if clusters is None else cluster_sums(shows.astype(float), clusters) > 0
    return np.asarray(seen.sum(-1) < FEW)


def harm_is_rare(harm: Array, allowance: Array, known: Range, clusters: Codes) -> Bools:
    """Few samples differ from the commonest, or few answers fall short of the best."""
    rare = few_differ(harm, FEW, clusters=clusters)
    rare |= few_differ(harm - allowance, FEW, clusters=clusters)
    best = known.candidate.max(-1, keepdims=True)
    return np.asarray(rare | few(known.candidate < best, clusters))


def p_unseen_harm(
    harm: Array, allowance: Array, worst: Array, clusters: Codes, weights: Array | None
) -> Array:
    """P-value of "within the margin" that leaves room for a harm not yet met; (trials,).

    The larger of two: t with one more sample, the worst possible (DESIGN.md's rule: without it a
    ceiling of 60 passes a true −5% in 19% of trials), and a bound that needs no spread. The bound
    is for small alphas, which looks and trainings spend: with the one sample t finds p = 5e-5
    for 100 perfect answers, but their evidence is .95^100 = .006. Hoeffding's and a bet's share
    alpha 19 to 1; the bet is for candidates of which much improved, and alone where there is no
    room at all: a proven improvement.
    """
    room = np.average(allowance, axis=-1, weights=weights)
    extra = add_observation(
        harm - allowance, worst - allowance.min(-1), clusters=clusters, weights=weights
    ).below_by_t
    bounded = (worst > 0) & (worst > room)
    scale, target = np.where(bounded, worst, 1.0), np.where(bounded, room, 0.5)
    capped = np.minimum(harm, scale[..., None])
    bet = betting_below(capped, target, scale, clusters=clusters, weights=weights)
    share = np.clip(harm / scale[..., None], 0.0, 1.0)
    hoeffding = chernoff_below(share, target / scale, clusters=clusters, weights=weights)
    both = np.minimum(np.minimum(hoeffding / 0.95, bet / 0.05), 1.0)
    bound = np.where(target > 0, both, bet)
    return np.asarray(np.where(bounded, np.maximum(extra, bound), extra))


def gain_is_rare(known: Range, clusters: Codes) -> Bools:
    """Few answers are better than the worst, and the anchor was scored more finely than they.

    With as many responses behind both, an unchanged model's differences are symmetric, and t is
    right about them. A finer anchor sits a little above 0 everywhere, a coarse candidate at 0
    with a rare 1: most differences are small harms, and the gains that balance them are unseen.
    """
    worst = known.candidate.min(-1, keepdims=True)
    rare = few(known.candidate > worst, clusters)
    uneven = np.zeros_like(rare)
    uneven[rare] = _finer(known.anchor[rare], known.candidate[rare])
    return np.asarray(rare & uneven)


def p_unseen_gain(
    harm: Array, room: Array, gain: Array, clusters: Codes, weights: Array | None
) -> Array:
    """P-value against "mean harm is at most `room`" that leaves space for a gain not yet met.

    A bet on the gains, which are at most `gain` and, by the claim, at least −room on average.
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

    (trials, n) each. The candidate's responses are the fewest, up to 16, that its values fit.
    """
    open_ = np.ones(anchor.shape[0], dtype=bool)
    finer = np.zeros(anchor.shape[0], dtype=bool)
    for k in range(1, GRAINS + 1):
        fits = open_ & _on_grid(candidate, k)
        finer[fits] = ~_on_grid(anchor[fits], k)
        open_ &= ~fits
    return finer


def _on_grid(values: Array, k: int) -> Bools:
    steps = values * k
    return np.asarray((np.abs(steps - np.round(steps)) < 1e-9).all(-1))
