"""Length of answers, in tokens of the model or in characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.thoughts import without_thoughts
from harness.core.types import Direction, Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_as, silent_unscored


@dataclass(frozen=True, slots=True)
class Length:
    """Mean length of the responses: `tokens` as the model wrote them, or `characters`.

    Neither longer nor shorter is better by itself: `better` says which is for this suite. Thoughts
    are tokens that the model wrote, and no characters of its answer; `of: thoughts` is their own
    length, marks included, in tokens by their share of all characters. An answer that says nothing
    is 0 where longer is better, and unscored where shorter is.
    """

    unit: Literal["tokens", "characters"] = "tokens"
    better: Direction = "lower"
    of: Literal["answer", "thoughts"] = "answer"

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "length",
            self.better,
            unit=self.unit,
            high=None,
            version="2",
            options=(("unit", self.unit), *((("of", self.of),) if self.of != "answer" else ())),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        if self.of == "thoughts":
            return score_each(items, self._thought, thoughts=True)
        silent = silent_as(0.0) if self.better == "higher" else silent_unscored()
        return score_each(items, self._value, silent=silent)

    def _value(self, _: Sample, response: Response) -> Outcome:
        if self.unit == "characters":
            return float(len(response.text))
        if response.text and not response.token_ids:
            return Evidence.unscored(None, "the backend gave no tokens: use `unit: characters`")
        return float(len(response.token_ids))

    def _thought(self, _: Sample, response: Response) -> Outcome:
        whole = response.text if response.whole is None else response.whole
        thought = len(whole) - len(without_thoughts(whole))
        if self.unit == "characters" or not whole:
            return float(thought)
        if not response.token_ids:
            return Evidence.unscored(None, "the backend gave no tokens: use `unit: characters`")
        return len(response.token_ids) * thought / len(whole)
