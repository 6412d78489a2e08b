"""Citations of an answer: whether the passages that it names are those that bear it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.retrieval import grades_of
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_as

_COMMA = r"\s*[,;\uff0c\uff1b\u3001]\s*"
_ID = r"\^?\w[\w.:/-]*"
_MARK = re.compile(rf"[\[\u3010]({_ID}(?:{_COMMA}{_ID})*)[\]\u3011]")
_BETWEEN = re.compile(_COMMA)
_RANGE = re.compile(r"(\d{1,3})-(\d{1,3})")


def citations_in(answer: str) -> list[str]:
    """The ids that an answer cites, each once, in their order: `[1]`, `[1, 3]`, `[2-4]`, `[^1]`,
    `[doc7]`, `【1】`. A link's text `[so](…)` is no citation.
    """
    found: dict[str, None] = {}
    for mark in _MARK.finditer(answer):
        if answer[mark.end() : mark.end() + 1] == "(":
            continue
        for one in _BETWEEN.split(mark[1]):
            span = _RANGE.fullmatch(one)
            if span and int(span[1]) <= int(span[2]):
                found.update(dict.fromkeys(map(str, range(int(span[1]), int(span[2]) + 1))))
            else:
                found[one.lstrip("^")] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class _Cited:
    """What both share: the row's field with the ids that bear out a right answer."""

    field: str = "relevant"

    def _spec(self, name: str) -> MetricSpec:
        return MetricSpec(name, "higher", options=(("field", self.field),), reads=(self.field,))

    def _counts(self, sample: Sample, response: Response) -> tuple[int, int, int] | Evidence:
        """How many are cited, relevant, and both; or why that isn't known."""
        if self.field not in sample.fields:
            return Evidence.unscored(None, f"the row has no field {self.field!r}")
        grades = grades_of(sample.fields[self.field] or [])
        if grades is None:
            return Evidence.unscored(None, f"the field {self.field!r} holds no ids")
        cited = set(citations_in(response.text))
        wanted = {one for one, grade in grades.items() if grade > 0}
        return len(cited), len(wanted), len(cited & wanted)


class CitationPrecision(_Cited):
    """Mean share of an answer's citations that are relevant. An answer without any is 0, and 1
    where nothing is relevant (the question can't be answered from the passages).
    """

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("citation_precision")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        def value(sample: Sample, response: Response) -> Outcome:
            counts = self._counts(sample, response)
            if isinstance(counts, Evidence):
                return counts
            cited, wanted, both = counts
            return both / cited if cited else float(wanted == 0)

        return score_each(items, value, silent=silent_as(0.0))


class CitationRecall(_Cited):
    """Mean share of the relevant passages that an answer cites; unscored where none is relevant."""

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("citation_recall")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        def value(sample: Sample, response: Response) -> Outcome:
            counts = self._counts(sample, response)
            if isinstance(counts, Evidence):
                return counts
            _, wanted, both = counts
            if not wanted:
                return Evidence.unscored(None, "nothing is relevant to this sample")
            return both / wanted if response.text else silent_as(0.0)

        return score_each(items, value)
