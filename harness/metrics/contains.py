"""Whether an answer says the right one among other words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each, with_references_that_speak
from harness.metrics.support.silence import silent_as


def contains(answer: str, reference: str) -> bool:
    """Whether an answer holds the reference as words of its own: `18` is not in `180` or `1.18`.

    Without case, full-width forms and the separators of thousands; white space counts as one.
    """
    said, wanted = _flat(answer), _flat(reference)
    if not wanted:
        return False
    before = r"(?<![a-z0-9])(?<!\d\.)" if wanted[0].isascii() and wanted[0].isalnum() else ""
    after = r"(?![a-z0-9]|\.\d)" if wanted[-1].isascii() and wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, said) is not None


def _flat(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain).split())


@dataclass(frozen=True, slots=True)
class Contains:
    """Share of responses that hold one of the references; see `contains`."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("contains", "higher")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(with_references_that_speak(items), _value, silent=silent_as(0.0))


def _value(sample: Sample, response: Response) -> Outcome:
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    return float(any(contains(response.text, reference) for reference in sample.references))
