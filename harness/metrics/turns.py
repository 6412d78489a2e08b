"""Whether a model does right in every turn of a conversation whose other side is written down."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.core.thoughts import without_thoughts
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.contains import contains
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import says_nothing
from harness.metrics.support.tool_calls import calls_in
from harness.metrics.support.turns import apart
from harness.metrics.tools import arguments_right, wanted_calls

Expect = Mapping[str, Any]
"""What an answer must do, all of it: `contains` (a text, or a list of which one is enough), `lacks`
(a text, or a list of which none may be there), `regex`, `calls` (`[]`: none)."""


def turn_is_right(answer: str, expect: Expect) -> bool:
    """Whether one answer does all that is expected; saying nothing is never right. Raises
    ValueError for an expectation that isn't known, or can't be read.
    """
    unknown = next((name for name in expect if name not in _RULES), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is no rule of these: {', '.join(_RULES)}")
    spoken = without_thoughts(answer)
    if says_nothing(spoken) and not calls_in(answer):
        return False
    return all(
        _RULES[name](answer if name == "calls" else spoken, wanted)
        for name, wanted in expect.items()
    )


def _contains(answer: str, wanted: Any) -> bool:
    return any(contains(answer, str(one)) for one in _listed(wanted))


def _lacks(answer: str, wanted: Any) -> bool:
    return not _contains(answer, wanted)


def _matches(answer: str, wanted: Any) -> bool:
    try:
        return re.search(str(wanted), answer) is not None
    except re.error as error:
        raise ValueError(f"the regular expression is wrong: {error}") from None


def _calls(answer: str, wanted: Any) -> bool:
    right = wanted_calls(wanted)
    if right is None:
        raise ValueError("`calls` holds no calls")
    return arguments_right(answer, right) == 1.0


def _listed(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else [wanted]


_RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "contains": _contains,
    "lacks": _lacks,
    "regex": _matches,
    "calls": _calls,
}


@dataclass(frozen=True, slots=True)
class TurnsRight:
    """Share of conversations in which every answer is right by its turn's `expect`; with `count:
    each` the mean share of their turns that are. A turn without one is not judged. The reason of a
    conversation that isn't right names its first wrong turn.
    """

    field: str = "turns"
    count: Literal["all", "each"] = "all"

    @property
    def spec(self) -> MetricSpec:
        options = (("field", self.field), ("count", self.count))
        return MetricSpec("turns_right", "higher", options=options, reads=(self.field,))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value, thoughts=True)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        turns = sample.fields.get(self.field)
        if not isinstance(turns, list | tuple) or not all(isinstance(t, Mapping) for t in turns):
            return Evidence.unscored(None, f"the row has no turns in the field {self.field!r}")
        answers = apart(response.text)
        if len(answers) != len(turns):
            reason = f"{len(answers)} answers to {len(turns)} turns: ask them by `prompt: turns:`"
            return Evidence.unscored(None, reason)
        judged = [(n, turn["expect"]) for n, turn in enumerate(turns) if turn.get("expect")]
        if not judged:
            return Evidence.unscored(None, "no turn has an `expect`")
        try:
            wrong = [n for n, expect in judged if not turn_is_right(answers[n], expect)]
        except (ValueError, AttributeError, TypeError) as error:
            return Evidence.unscored(None, f"an `expect` can't be read: {error}")
        share = 1 - len(wrong) / len(judged)
        value = share if self.count == "each" else float(not wrong)
        return Evidence(
            None, value, reason=f"note: turn {wrong[0] + 1} is wrong" if wrong else None
        )
