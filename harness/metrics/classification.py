"""Answers that name a class: token F1 as SQuAD defines it, accuracy, macro-F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.core.errors import UserError
from harness.core.labels import Labels
from harness.core.scripts import answer_tokens
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import says_nothing, silent_as


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of shared tokens with the best reference, 0..1; higher is better.

    SQuAD's definition (Rajpurkar et al. 2016) on normalized tokens; scripts without spaces between
    words by what a reader sees as one character. Two texts that are both empty after normalization
    agree (1.0), as SQuAD has it; in a suite an answer that says nothing never wins. Raises
    ValueError without a reference.
    """
    if not references:
        raise ValueError("token F1 needs a reference")
    given = Counter(answer_tokens(answer))
    return max(_f1(given, Counter(answer_tokens(reference))) for reference in references)


def _f1(given: Counter[str], wanted: Counter[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def accuracy(predicted: Sequence[Any], expected: Sequence[Any]) -> float:
    """Share of equal pairs, 0..1. Raises UserError for lengths that differ or no pair at all."""
    _check_pairs(predicted, expected)
    return sum(bool(p == e) for p, e in zip(predicted, expected, strict=True)) / len(expected)


def f1_macro(predicted: Sequence[Any], expected: Sequence[Any]) -> float:
    """Mean over the labels that occur on either side of 2·tp / (2·tp + fp + fn), 0..1.

    Equals scikit-learn's `f1_score(average="macro")`.
    """
    _check_pairs(predicted, expected)
    hits = Counter(p for p, e in zip(predicted, expected, strict=True) if p == e)
    # 2·tp + fp + fn: how often a label was predicted, plus how often it was expected.
    seen = Counter(predicted) + Counter(expected)
    return sum(2 * hits[label] / count for label, count in seen.items()) / len(seen)


def _check_pairs(predicted: Sequence[Any], expected: Sequence[Any]) -> None:
    if len(predicted) != len(expected) or not expected:
        raise UserError(
            f"{len(predicted)} predictions, but {len(expected)} expected labels",
            hint="give as many of both, at least one",
        )


@dataclass(frozen=True, slots=True)
class TokenF1:
    """Mean token F1 of the responses against their best reference."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("token_f1", "higher", version="2", options=(("norm", "squad+scripts"),))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, _token_f1)


def _token_f1(sample: Sample, response: Response) -> Outcome:
    references = [text for text in sample.references if not says_nothing(text)]
    if not references:
        return Evidence.unscored(None, "the sample has no reference that says anything")
    if says_nothing(response.text):
        return silent_as(0.0)
    return token_f1(response.text, references)


@dataclass(frozen=True)
class Accuracy:
    """Share of responses that are the reference label, by the rule of `core.labels.Labels`.

    The labels are the references of the suite's task. An answer that says nothing is wrong.
    """

    known: Labels = field(default=Labels(articles=True), init=False, repr=False)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("accuracy", "higher", version="3", options=(("norm", "label"),))

    def among(self, samples: Sequence[Sample]) -> Accuracy:
        """This metric with the labels of `samples` kept apart."""
        return with_labels(self, samples, articles=True)

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if len(sample.references) != 1 or says_nothing(sample.references[0]):
            return Evidence.unscored(None, "accuracy needs exactly one reference: the label")
        if says_nothing(response.text):
            return silent_as(0.0)
        return float(self.known.is_one_of(response.text, sample.references))


Labelled = TypeVar("Labelled")


def with_labels(metric: Labelled, samples: Sequence[Sample], *, articles: bool) -> Labelled:
    """A copy of `metric` that knows every reference of `samples` as a label."""
    fitted = copy(metric)
    labels = Labels(tuple({r: None for s in samples for r in s.references}), articles=articles)
    object.__setattr__(fitted, "known", labels)
    return fitted


@dataclass(frozen=True, slots=True)
class F1Macro:
    """Macro-F1 over `labels`, 0..1; a response is its label, by the rule of `core.labels.Labels`.

    A response's own value is 1 where the label is right. The run's value comes from the summed
    counts (tp, fp, fn of each label, in the order of the suite), with a jackknife's uncertainty.
    A response that is not a label counts as a miss of the right one.
    """

    labels: list[str]

    def __post_init__(self) -> None:
        if not isinstance(self.labels, list) or not all(isinstance(x, str) for x in self.labels):
            raise UserError(
                f"labels must be a list of texts, not {self.labels!r}",
                field="labels",
                hint='put each in quotes, as "yes": YAML reads yes as true and -1 as a number',
            )
        if len({label.strip() for label in self.labels}) != len(self.labels) or not self.labels:
            raise UserError(
                "there must be at least one label, and no two may be the same",
                field="labels",
                hint="spaces around a label don't count",
            )
        if any(map(says_nothing, self.labels)):
            raise UserError("a label is empty", field="labels", hint="every label is a text")

    @property
    def known(self) -> Labels:
        return Labels(tuple(self.labels), articles=True)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "f1_macro",
            "higher",
            form="corpus",
            version="3",
            aggregate="f1_macro",
            stats=tuple(f"{count}_{x}" for x in self.labels for count in ("tp", "fp", "fn")),
            options=(("labels", ",".join(x.replace(",", r"\,") for x in self.labels)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        known = self.known

        def label_of(text: str) -> str | None:
            return next((x for x in self.labels if known.is_one_of(text, (x,))), None)

        def value(sample: Sample, response: Response) -> Outcome:
            right = label_of(sample.references[0]) if len(sample.references) == 1 else None
            if right is None:
                return Evidence.unscored(None, "the reference is not one of the labels")
            given = label_of(response.text)
            stats = []
            for label in self.labels:
                stats += [
                    float(label == given == right),
                    float(label == given != right),
                    float(label == right != given),
                ]
            return Evidence(None, float(given == right), stats=tuple(stats))

        return score_each(items, value)
