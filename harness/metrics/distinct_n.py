"""Distinct-n: the share of different n-grams among the n-grams of a set of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UserError
from harness.core.scripts import words
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples
from harness.metrics.support.silence import says_no_word, silent_as


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Different n-grams over all n-grams of `texts` together, 0..1; higher is more diverse.

    Li et al. 2016, over `core.scripts.words`. A text of fewer than n tokens is one n-gram, all of
    it, so that short texts which say the same count as the same. It falls as texts grow longer or
    more, so only equal numbers of texts compare. Raises UserError where no text has a token.
    """
    if n < 1:
        raise UserError(f"n must be at least 1, not {n}", field="n")
    total, seen = 0, set[tuple[str, ...]]()
    for text in texts:
        tokens = words(text)
        grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
        if tokens and not grams:
            grams = [tuple(tokens)]
        total += len(grams)
        seen.update(grams)
    if total == 0:
        raise UserError("no text has a token")
    return len(seen) / total


@dataclass(frozen=True, slots=True)
class DistinctN:
    """Mean distinct-n of the K responses to a sample, in fixed groups of K.

    Where one of the answers has no word, the sample is 0, the worst value: left out, its silence
    would make the others more diverse.
    """

    n: int = 2

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"n must be at least 1, not {self.n}", field="n")

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "distinct_n",
            "higher",
            form="group",
            per="sample",
            version="3",
            options=(("n", str(self.n)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, _: Sample, responses: tuple[Response, ...]) -> Outcome:
        texts = [response.text for response in responses]
        if any(map(says_no_word, texts)):
            return silent_as(0.0)
        try:
            return distinct_n(texts, self.n)
        except UserError as error:
            return Evidence.unscored(None, error.what)
