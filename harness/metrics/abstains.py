"""Whether a question that the passages don't answer is left unanswered, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.retrieval import grades_of
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_as

PHRASES = (
    r"\b(?:do not|don't|did not|didn't) know\b",
    r"\b(?:does|do|did)(?:n't| not) (?:\w+ )?(?:say|mention|state|give|specify|contain|provide"
    r"|include|tell|answer|describe|cover|discuss|list|indicate|reveal|address|have)\b",
    r"(?:\bnot|n't|\bnever|\bnowhere) (?:\w+ )?(?:mentioned|stated|given|specified|said|provided"
    r"|included|covered|found|available|described|listed|discussed|answered|known|clear)\b",
    r"\b(?:can ?not|can't|could not|couldn't|unable to|impossible to|no way to) (?:\w+ )?(?:say"
    r"|tell|determine|answer|find|infer|know|be (?:\w+ )?(?:answered|determined|known|found|said))",
    r"\b(?:no|not enough|insufficient) (?:\w+ )?(?:information|mention|answer|data|details?|context"
    r"|evidence|passage)\b",
    r"\bnone of the (?:\w+ )?(?:passages|texts|documents|sources)\b",
    r"\bun(?:answerable|known)\b",
    "(?:没有?|并未|并没有?|未)(?:\\w{0,4})(?:提到|提及|说明|说到|给出|涉及|写明|写出|介绍|提供|记载|交代|指出)",
    "(?:无法|不能|难以|没法)(?:\\w{0,12})(?:回答|得知|确定|判断|得出|知道|推断|推出|找到|获知)",
    "不知道|不清楚|不得而知|无从得知|信息不足|未知",
    "没有(?:\\w{0,6})(?:信息|答案|依据|资料|内容)",
)
_OPENING = 300


def abstains(text: str) -> float:
    """1.0 where the first 300 characters say in English or Chinese that the answer isn't known or
    doesn't stand in what was given, else 0.0.

    A list of turns of phrase (“the passages don't mention”, “文中没有提到”): it sees the wording,
    not the sense.
    """
    opening = text[:_OPENING].translate({0x2019: "'", 0x2018: "'"})
    return float(_abstention().search(opening) is not None)


@lru_cache(maxsize=1)
def _abstention() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{phrase})" for phrase in PHRASES), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Abstains:
    """Share of responses that say they don't know, over the samples to which nothing is relevant
    (the row's `field` is empty or null); the others are unscored. Silence is no abstention.
    """

    field: str = "relevant"

    @property
    def spec(self) -> MetricSpec:
        options = (("phrases", "en+zh"), ("field", self.field))
        return MetricSpec("abstains", "higher", options=options, reads=(self.field,))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if self.field not in sample.fields:
            return Evidence.unscored(None, f"the row has no field {self.field!r}")
        grades = grades_of(sample.fields[self.field] or [])
        if grades is None:
            return Evidence.unscored(None, f"the field {self.field!r} holds no ids")
        if any(grade > 0 for grade in grades.values()):
            return Evidence.unscored(None, "this question has an answer")
        return abstains(response.text) if response.text else silent_as(0.0)
