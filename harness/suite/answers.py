"""What of an answer is scored: a chain of filters before the metrics."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from harness.core.strict_model import StrictModel
from harness.core.thoughts import closes_thought, ends_in_thought, without_thoughts
from harness.metrics.support.code_blocks import blocks

CUT = "the answer is cut in its thought"
"""What is wrong with an answer whose thought never ends: there is nothing to be scored."""


class Reading(NamedTuple):
    """What is scored of an answer, and what is wrong with it: "" and the reason where nothing is
    left to be scored, None where all is well.
    """

    text: str
    problem: str | None = None


class AnswerModel(StrictModel):
    r"""The filters that an answer goes through before its metrics, in the order of these keys.

    after       what follows the last of this text; a mark that ends a thought, such as `</think>`,
                may be missing where nothing was thought
    code_fence  the last fenced block of this language (or of none), `true` for any; an answer
                without a fence is taken whole
    boxed       what the last `\boxed{…}` holds
    regex       what the pattern finds (its `group`: the first where it has one, else all of it);
                of several matches the first, or with `match: last` the last
    last_number the last number, without its thousands separators
    first_line  the first line that isn't empty
    strip       without white space around

    Thoughts are split off before, unless `after` does it. Where a filter finds nothing, nothing is
    left, which each metric counts as an answer that says nothing. So does a thought that never
    ends; with `cut: unscored` it is left out instead, and where more than the share `cut_at_most`
    of a task's answers are cut, scoring ends with a message.
    """

    after: str | None = Field(None, min_length=1)
    code_fence: str | bool = False
    boxed: bool = False
    regex: str | None = Field(None, min_length=1)
    group: int | str | None = None
    match: Literal["first", "last"] = "first"
    last_number: bool = False
    first_line: bool = False
    strip: bool = False
    cut: Literal["worst", "unscored"] = "worst"
    cut_at_most: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _pattern(self) -> Self:
        if self.regex is None:
            if self.group is not None or self.match != "first":
                raise ValueError("`group` and `match` belong to a `regex`")
            return self
        try:
            pattern = re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"the regular expression is wrong: {error}") from None
        known = {*range(pattern.groups + 1), *pattern.groupindex}
        if self.group is not None and self.group not in known:
            named = ", ".join(map(str, sorted(known, key=str)))
            raise ValueError(f"the pattern has no group {self.group!r}; it has {named}")
        return self

    @property
    def protocol(self) -> dict[str, Any]:
        """What two runs must share of it: the keys that were set."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"cut_at_most"})

    def read(self, text: str) -> Reading:
        """What is scored of an answer."""
        said = _after(text, self.after) if self.after else _spoken(text)
        if said.problem is not None:
            return said
        found = said.text
        for name, find in self._filters():
            part = find(found)
            if part is None:
                return Reading("", f"`{name}` finds nothing in the answer")
            found = part
        return Reading(found)

    def _filters(self) -> list[tuple[str, Callable[[str], str | None]]]:
        chain: list[tuple[str, Callable[[str], str | None]]] = []
        if self.code_fence:
            chain.append(("code_fence", lambda text: fenced(text, self.code_fence)))
        if self.boxed:
            chain.append(("boxed", boxed))
        if self.regex is not None:
            chain.append(("regex", self._match))
        if self.last_number:
            chain.append(("last_number", last_number))
        if self.first_line:
            chain.append(("first_line", first_line))
        if self.strip:
            chain.append(("strip", str.strip))
        return chain

    def _match(self, text: str) -> str | None:
        pattern = _compiled(self.regex or "")
        if self.match == "first":
            found = pattern.search(text)
        else:
            found = next(iter(deque(pattern.finditer(text), maxlen=1)), None)
        if found is None:
            return None
        group = self.group if self.group is not None else min(pattern.groups, 1)
        taken: str | None = found[group]
        return taken


def read(text: str) -> Reading:
    """What is scored of an answer where a suite names no filters: all of it, thoughts and all, for
    each metric knows what to do with those; but a thought that never ends is known as such.
    """
    return Reading(text, CUT if ends_in_thought(text) else None)


def _spoken(text: str) -> Reading:
    if ends_in_thought(text):
        return Reading("", CUT)
    return Reading(without_thoughts(text))


def _after(text: str, mark: str) -> Reading:
    _, found, rest = text.rpartition(mark)
    if found:
        return Reading(rest)
    return (
        _spoken(text)
        if closes_thought(mark)
        else Reading("", "`after` finds nothing in the answer")
    )


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def fenced(text: str, language: str | bool) -> str | None:
    """What stands in the last fenced block of a language, else of none; the whole text where there
    is no fence, None where there are only blocks of others.
    """
    found = blocks(text)
    if not found:
        return text
    wanted = "" if language is True else str(language).lower()
    own = [block for block in found if language is True or block.language == wanted]
    taken = own or [block for block in found if not block.language]
    return taken[-1].code.removesuffix("\n") if taken else None


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` (or `\fbox{…}`) holds, braces within it balanced; None for none.
    One that never closes is none.
    """
    ends = deque((found.end() for found in _BOX.finditer(text)), maxlen=_BOXES)
    for start in reversed(ends):
        depth = 1
        for place in range(start, len(text)):
            escaped = text[place - 1] == "\\"
            if text[place] in "{}" and not escaped:
                depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start:place].strip()
    return None


_BOXES = 20
"""How many boxes that never close are passed over."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


def last_number(text: str) -> str | None:
    """The last number of a text as digits: `-3`, `0.5`, `3/4`, `1e5`; `1,234` is `1234`, `３` is
    `3`. A minus counts where no digit, letter or bracket stands before it. None for no number.
    """
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    found = next(iter(deque(_NUMBER.finditer(plain), maxlen=1)), None)
    return None if found is None else re.sub(r"[,_](?=\d{3})", "", found[0])


_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.)\]])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?(?:/\d+)?"
    r"|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|-?\.\d+"
)


def first_line(text: str) -> str | None:
    """The first line that isn't empty, without white space around; None where all are."""
    return next((line.strip() for line in text.splitlines() if line.strip()), None)
