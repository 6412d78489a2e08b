"""Turns a function over responses into the evidence that the runner stores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem

Pair = tuple[Sample, Response]
Outcome = float | Evidence


def score_responses(
    items: Sequence[MetricItem], values: Callable[[list[Pair]], Sequence[Outcome]]
) -> list[list[Evidence]]:
    """One evidence per response. `values` sees every response that carries no error, in order.

    It returns one outcome for each: a float, or an `Evidence` where there are statistics or a
    reason; the index is filled in here. A float that isn't finite becomes an error, never a score.
    """
    pairs = [
        (item.sample, response)
        for item in items
        for response in item.responses
        if response.error is None
    ]
    outcomes = iter(values(pairs) if pairs else ())
    return [
        [
            Evidence.error(response.index, response.error)
            if response.error is not None
            else as_evidence(next(outcomes), response.index)
            for response in item.responses
        ]
        for item in items
    ]


def score_each(
    items: Sequence[MetricItem], value: Callable[[Sample, Response], Outcome]
) -> list[list[Evidence]]:
    """As `score_responses`, for a metric that looks at one response at a time."""
    return score_responses(items, lambda pairs: [value(*pair) for pair in pairs])


def score_samples(
    items: Sequence[MetricItem],
    value: Callable[[Sample, tuple[Response, ...]], Outcome],
    *,
    partial: bool = False,
) -> list[list[Evidence]]:
    """One evidence per sample, from all its responses.

    A sample without responses is unscored. One response with an error makes the sample an error,
    because a value over the answers that happened to arrive is another quantity; with `partial`
    the responses that arrived are used.
    """
    return [[_score_sample(item, value, partial)] for item in items]


def _score_sample(
    item: MetricItem, value: Callable[[Sample, tuple[Response, ...]], Outcome], partial: bool
) -> Evidence:
    if not item.responses:
        return Evidence.unscored(None, "the sample has no response")
    usable = tuple(response for response in item.responses if response.error is None)
    failed = [response for response in item.responses if response.error is not None]
    if failed and not (partial and usable):
        first = failed[0]
        return Evidence.error(None, f"response {first.index}: {first.error}")
    return as_evidence(value(item.sample, usable), None)


def as_evidence(outcome: Outcome, response_index: int | None) -> Evidence:
    """`outcome` under its index; a value that isn't finite becomes an error."""
    if not isinstance(outcome, Evidence):
        outcome = Evidence(None, float(outcome))
    if outcome.value is not None and not math.isfinite(outcome.value):
        return Evidence.error(response_index, f"the metric computed {outcome.value}")
    return replace(outcome, response_index=response_index)
