"""Exact match: whether the answer equals a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.core.labels import Labels
from harness.core.language import normalize_squad
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.classification import with_labels
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import says_nothing, silent_as

Normalization = Literal["auto", "squad", "label", "strip", "none"]
_NORMALIZE: dict[str, Callable[[str], str]] = {
    "squad": normalize_squad,
    "strip": str.strip,
    "none": str,
}


def exact_match(
    answer: str, references: Sequence[str], *, normalize: Normalization = "auto"
) -> float:
    """1.0 where `answer` equals one of `references`, else 0.0. Higher is better.

    `auto` takes the exact text, else compares without case, an article in front, and what stands
    around an answer; signs, points, operators and units count (`core.labels.label_form`). `label`
    does the same with articles kept (for answers like `A`). `squad` is SQuAD's own (Rajpurkar et
    al. 2016): lower case, without ASCII punctuation, articles and extra spaces, so that -1 is 1.
    `strip` compares without surrounding whitespace, `none` as written. No reference gives 0.0.
    """
    if normalize in ("auto", "label"):
        return float(Labels(articles=normalize == "label").is_one_of(answer, references))
    change = _NORMALIZE[normalize]
    return float(change(answer) in {change(reference) for reference in references})


@dataclass(frozen=True)
class ExactMatch:
    """Share of responses that equal a reference. Paired by sample; a mean of 0s and 1s.

    With `auto` and `label` no two references of the suite's task can be made equal by it. An answer
    that says nothing is wrong, and an empty reference is none; only `squad` takes both for "there
    is no answer", as SQuAD 2.0 does.
    """

    normalize: Normalization = "auto"
    known: Labels | None = field(default=None, init=False, repr=False)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("exact_match", "higher", version="3", options=(("norm", self.normalize),))

    def among(self, samples: Sequence[Sample]) -> ExactMatch:
        """This metric with the references of `samples` kept apart."""
        if self.normalize not in ("auto", "label"):
            return self
        return with_labels(self, samples, articles=self.normalize == "label")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if not sample.references:
            return Evidence.unscored(None, "the sample has no reference")
        if self.normalize == "squad":
            return exact_match(response.text, sample.references, normalize="squad")
        references = [text for text in sample.references if not says_nothing(text)]
        if not references:
            return Evidence.unscored(
                None, "the reference is empty: `normalize: squad` takes silence for an answer"
            )
        if says_nothing(response.text):
            return silent_as(0.0)
        if self.known is not None:
            return float(self.known.is_one_of(response.text, references))
        return exact_match(response.text, references, normalize=self.normalize)
