"""Reference NLL: nats per token of the right answer under the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples


def reference_nll(logprobs: Sequence[float]) -> float:
    """Mean of −ln p over the tokens of the reference answer, given the prompt. Nats per token.

    From 0 (certain of every token) upwards; lower is better. Being continuous, it sees changes
    that exact match on a small suite can't. Raises ValueError without tokens.
    """
    if not logprobs:
        raise ValueError("the reference has no token")
    # The sum of zeros would be written as -0.0.
    return -math.fsum(logprobs) / len(logprobs) + 0.0


@dataclass(frozen=True, slots=True)
class ReferenceNll:
    """Mean over the samples of the reference answer's NLL per token.

    Nats have a true zero, so the margin is relative: 5% means 5% more nats per token. Every sample
    weighs the same, however long its reference. Several references are taken together, all their
    tokens over all their nats.
    """

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "reference_nll",
            "lower",
            unit="nats per token",
            low=0.0,
            high=None,
            needs="reference",
            per="sample",
            stats=("nll_nats", "tokens"),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, _sample)


def _sample(_: Sample, responses: tuple[Response, ...]) -> Outcome:
    if any(response.logprobs is None for response in responses):
        return Evidence.error(None, "the backend gave no log-probabilities")
    logprobs = [value for response in responses for value in response.logprobs or ()]
    if not logprobs:
        return Evidence.unscored(None, "the reference has no token")
    nll = -math.fsum(logprobs) + 0.0
    return Evidence(None, reference_nll(logprobs), stats=(nll, float(len(logprobs))))
