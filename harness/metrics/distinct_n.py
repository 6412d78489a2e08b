"""Distinct-n: the share of different n-grams among the n-grams of a set of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.rouge import tokenize
from harness.metrics.support.items import Outcome, score_samples


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Different n-grams over all n-grams of `texts` together, 0..1; higher is more diverse.

    Li et al. 2016. Tokens are lower-cased words, and CJK characters one by one. It falls as texts
    grow longer or more, so only equal numbers of texts compare. Raises UserError where no text
    has n tokens.
    """
    if n < 1:
        raise UserError(f"n must be at least 1, not {n}", field="n")
    total, seen = 0, set()
    for text in texts:
        tokens = tokenize(text)
        grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    if total == 0:
        raise UserError(f"no text has {n} tokens")
    return len(seen) / total


@dataclass(frozen=True, slots=True)
class DistinctN:
    """Mean distinct-n of the K responses to a sample, in fixed groups of K."""

    n: int = 2

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"n must be at least 1, not {self.n}", field="n")

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "distinct_n", "higher", form="group", per="sample", options=(("n", str(self.n)),)
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, _: Sample, responses: tuple[Response, ...]) -> Outcome:
        try:
            return distinct_n([response.text for response in responses], self.n)
        except UserError as error:
            return Evidence.unscored(None, error.what)
