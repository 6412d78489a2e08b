"""Turns a function over responses into the evidence that the runner stores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.core.thoughts import without_thoughts
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem
from harness.metrics.support.silence import says_nothing

Pair = tuple[Sample, Response]
Outcome = float | Evidence


def score_responses(
    items: Sequence[MetricItem],
    values: Callable[[list[Pair]], Sequence[Outcome]],
    *,
    silent: Outcome | None = None,
    is_silent: Callable[[str], bool] = says_nothing,
    thoughts: bool = False,
) -> list[list[Evidence]]:
    """One evidence per response. `values` sees every response that carries no error, in order.

    It returns one outcome for each: a float, or an `Evidence` where there are statistics or a
    reason; the index is filled in here. A float that isn't finite becomes an error, never a score.

    What a model wrote comes without its thoughts (`core.thoughts`), and is "" where it says
    nothing, unless `thoughts`. With `silent` an answer that `is_silent` has this outcome, and
    `values` doesn't see it.
    """
    answers = [[_answer(response, thoughts) for response in item.responses] for item in items]
    heard = [
        [r.error is None and not (silent is not None and _hushed(r, is_silent)) for r in row]
        for row in answers
    ]
    pairs = [
        (item.sample, response)
        for item, row, listened in zip(items, answers, heard, strict=True)
        for response, ok in zip(row, listened, strict=True)
        if ok
    ]
    outcomes = iter(values(pairs) if pairs else ())
    return [
        [
            Evidence.error(response.index, response.error)
            if response.error is not None
            else as_evidence(next(outcomes) if ok or silent is None else silent, response.index)
            for response, ok in zip(row, listened, strict=True)
        ]
        for row, listened in zip(answers, heard, strict=True)
    ]


def _answer(response: Response, thoughts: bool) -> Response:
    if thoughts or response.kind != "generation":
        return response
    spoken = without_thoughts(response.text)
    if says_nothing(spoken):
        spoken = ""
    return response if spoken is response.text else replace(response, text=spoken)


def _hushed(response: Response, is_silent: Callable[[str], bool]) -> bool:
    return response.kind == "generation" and is_silent(response.text)


def score_each(
    items: Sequence[MetricItem],
    value: Callable[[Sample, Response], Outcome],
    *,
    silent: Outcome | None = None,
    is_silent: Callable[[str], bool] = says_nothing,
    thoughts: bool = False,
) -> list[list[Evidence]]:
    """As `score_responses`, for a metric that looks at one response at a time."""
    return score_responses(
        items,
        lambda pairs: [value(*pair) for pair in pairs],
        silent=silent,
        is_silent=is_silent,
        thoughts=thoughts,
    )


def score_samples(
    items: Sequence[MetricItem],
    value: Callable[[Sample, tuple[Response, ...]], Outcome],
    *,
    partial: bool = False,
) -> list[list[Evidence]]:
    """One evidence per sample, from all its responses.

    A sample without responses is unscored. One response with an error makes the sample an error,
    because a value over the answers that happened to arrive is another quantity; with `partial`
    the responses that arrived are used. What a model wrote comes as in `score_responses`.
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
    answers = tuple(_answer(response, thoughts=False) for response in usable)
    return as_evidence(value(item.sample, answers), None)


def with_references_that_speak(items: Sequence[MetricItem]) -> list[MetricItem]:
    """The items without references that say nothing: an empty reference is none."""
    return [
        replace(item, sample=replace(item.sample, references=spoken))
        if len(spoken := tuple(r for r in item.sample.references if not says_nothing(r)))
        < len(item.sample.references)
        else item
        for item in items
    ]


def as_evidence(outcome: Outcome, response_index: int | None) -> Evidence:
    """`outcome` under its index; a value that isn't finite becomes an error."""
    if not isinstance(outcome, Evidence):
        outcome = Evidence(None, float(outcome))
    if outcome.value is not None and not math.isfinite(outcome.value):
        return Evidence.error(response_index, f"the metric computed {outcome.value}")
    return replace(outcome, response_index=response_index)
