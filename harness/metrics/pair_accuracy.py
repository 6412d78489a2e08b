"""Pair accuracy: how often a model ranks the better of two answers first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples
from harness.metrics.support.pairs import pair_of, prefers_first


def prefers_chosen(
    chosen: Sequence[float], rejected: Sequence[float], *, normalize: bool = False
) -> float:
    """1.0 where the chosen answer's score is the higher, 0.5 for a tie, else 0.0.

    Each argument holds what a backend says of an answer, and its sum is the answer's score: ln p
    of each token from a language model, the reward alone from a reward model. With `normalize` the
    means are compared, which favors neither answer for its length.
    """
    return prefers_first(chosen, rejected, normalize=normalize)


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """Share of pairs in which the chosen answer scores higher; 0.5 is what guessing gives.

    A sample's two references are the chosen and the rejected answer, in this order.
    """

    normalize: Literal["none", "tokens"] = "none"

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "pair_accuracy",
            "higher",
            needs="reference",
            per="sample",
            options=(("norm", self.normalize),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, sample: Sample, responses: tuple[Response, ...]) -> Outcome:
        pair = pair_of(sample, responses, "chosen and rejected")
        if isinstance(pair, Evidence):
            return pair
        if not all(pair):
            return Evidence.unscored(None, "an answer has no score")
        return prefers_chosen(*pair, normalize=self.normalize == "tokens")
