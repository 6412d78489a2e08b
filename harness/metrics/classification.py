"""Answers that name a class: token F1 as SQuAD defines it, accuracy, macro-F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.core.language import answer_tokens, normalize_label
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of shared tokens with the best reference, 0..1; higher is better.

    SQuAD's definition (Rajpurkar et al. 2016) on normalized tokens, a CJK character being a token
    by itself. Two texts that are both empty after normalization agree (1.0). Raises ValueError
    without a reference.
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
        return MetricSpec("token_f1", "higher", options=(("norm", "squad+cjk"),))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, _token_f1)


def _token_f1(sample: Sample, response: Response) -> Outcome:
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    return token_f1(response.text, sample.references)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of responses that are the reference label, compared after normalization."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("accuracy", "higher", options=(("norm", "label"),))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if len(sample.references) != 1:
            return Evidence.unscored(None, "accuracy needs exactly one reference: the label")
        return float(normalize_label(response.text) == normalize_label(sample.references[0]))


@dataclass(frozen=True, slots=True)
class F1Macro:
    """Macro-F1 over `labels`, 0..1; a response is its label, compared after normalization.

    A response's own value is 1 where the label is right. The run's value comes from the summed
    counts (tp, fp, fn of each label, in the order of the suite), with a jackknife's uncertainty.
    A response that is not a label counts as a miss of the right one.
    """

    labels: list[str]

    def __post_init__(self) -> None:
        if not isinstance(self.labels, list) or not all(isinstance(x, str) for x in self.labels):
            raise UserError("labels must be a list of texts", field="labels")
        if len({normalize_label(label) for label in self.labels}) != len(self.labels) or not (
            self.labels
        ):
            raise UserError(
                "there must be at least one label, and no two may be the same",
                field="labels",
                hint="case, punctuation and spaces don't count",
            )

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "f1_macro",
            "higher",
            form="corpus",
            aggregate="f1_macro",
            stats=tuple(f"{count}_{x}" for x in self.labels for count in ("tp", "fp", "fn")),
            options=(("labels", ",".join(self.labels)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        known = [normalize_label(label) for label in self.labels]

        def value(sample: Sample, response: Response) -> Outcome:
            expected = [normalize_label(reference) for reference in sample.references]
            if len(expected) != 1 or expected[0] not in known:
                return Evidence.unscored(None, "the reference is not one of the labels")
            given = normalize_label(response.text)
            stats = []
            for label in known:
                stats += [
                    float(label == given == expected[0]),
                    float(label == given != expected[0]),
                    float(label == expected[0] != given),
                ]
            return Evidence(None, float(given == expected[0]), stats=tuple(stats))

        return score_each(items, value)
