"""Whether an answer matches a regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from harness.core.errors import UserError
from harness.core.types import Direction
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import score_each
from harness.metrics.support.silence import silent_as

How = Literal["search", "full"]


def matches(text: str, pattern: str, *, how: How = "search") -> float:
    """1.0 where `pattern` (Python's `re`) is found in `text`, or is all of it (`full`), else 0.0.

    `.` stops at a line's end and case counts, unless the pattern says `(?s)` or `(?i)`. Raises
    UserError for a pattern that isn't valid.
    """
    compiled = _compile(pattern)
    return float((compiled.search if how == "search" else compiled.fullmatch)(text) is not None)


@lru_cache(maxsize=64)
def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"the regular expression is wrong: {error}", field="pattern") from error


@dataclass(frozen=True, slots=True)
class Regex:
    """Share of responses that match `pattern`; `better: lower` for what must not appear.

    An answer that says nothing counts as the worse of both, whatever the pattern.
    """

    pattern: str
    how: How = "search"
    better: Direction = "higher"

    def __post_init__(self) -> None:
        _compile(self.pattern)

    @property
    def spec(self) -> MetricSpec:
        options = (("pattern", self.pattern), ("how", self.how))
        return MetricSpec("regex", self.better, version="2", options=options)

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        silent = silent_as(0.0 if self.better == "higher" else 1.0)
        return score_each(
            items, lambda _, r: matches(r.text, self.pattern, how=self.how), silent=silent
        )
