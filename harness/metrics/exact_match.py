"""Exact match: whether the answer equals a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.language import normalize_answer, normalize_label
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each

Normalization = Literal["squad", "label", "strip", "none"]
_NORMALIZE: dict[str, Callable[[str], str]] = {
    "squad": normalize_answer,
    "label": normalize_label,
    "strip": str.strip,
    "none": str,
}


def exact_match(
    answer: str, references: Sequence[str], *, normalize: Normalization = "squad"
) -> float:
    """1.0 where `answer` equals one of `references`, else 0.0. Higher is better.

    `squad` compares after lower-casing and without punctuation, articles and extra spaces
    (Rajpurkar et al. 2016; see `text.normalize_answer` for Chinese), `label` the
    same with articles kept (for answers like `A`), `strip` without surrounding whitespace, `none`
    as written. No reference at all gives 0.0.
    """
    change = _NORMALIZE[normalize]
    return float(change(answer) in {change(reference) for reference in references})


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """Share of responses that equal a reference. Paired by sample; a mean of 0s and 1s."""

    normalize: Normalization = "squad"

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("exact_match", "higher", options=(("norm", self.normalize),))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if not sample.references:
            return Evidence.unscored(None, "the sample has no reference")
        return exact_match(response.text, sample.references, normalize=self.normalize)
