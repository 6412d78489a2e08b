"""Calls of tools in three stages: which is chosen, with what arguments, and what is made of it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.thoughts import without_thoughts
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.contains import contains
from harness.metrics.support.bfcl_calls import LANGUAGES, CheckedCall, matched
from harness.metrics.support.items import Outcome, score_each, with_references_that_speak
from harness.metrics.support.silence import says_nothing, silent_as
from harness.metrics.support.tool_calls import Call, calls_in

_LOOSE = re.compile(r"[,./\-_*^ ]")
_OPTIONAL = ""
"""Among the values that an argument may have: it may be left out, as BFCL writes it."""
_SOME, _NONE = "some", "none"
"""In place of calls: some tool is to be called, whichever; none is, and silence is right too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is right: each argument with the values that it may have; where it is `nested`,
    the parts of an object are such lists too, as BFCL has them.
    """

    name: str
    allowed: Mapping[str, Sequence[Any]]
    nested: bool = False

    def fits(self, call: Call) -> bool:
        """Whether a call is this one, and has these arguments and no others."""
        given = call.arguments
        if call.name != self.name or given is None or not given.keys() <= self.allowed.keys():
            return False
        return all(
            any(_is_allowed(given[key], value, self.nested) for value in values)
            if key in given
            else _OPTIONAL in values
            for key, values in self.allowed.items()
        )


Right = Sequence[Wanted] | Sequence[CheckedCall]
"""The calls that are right, as a row wants them."""


def wanted_calls(value: Any) -> Right | None:
    """The right calls as a row has them: `[{"name", "arguments"}]`, BFCL's
    `[{"name": {"argument": [allowed values]}}]`, or rows of `bfcl:NAME`, which say the types as
    well (`[{"name", "allowed", "parameters", "language"}]`). Null and `[]` mean that nothing is to
    be called; None is returned for what is neither.
    """
    if value is None:
        return []
    if isinstance(value, list) and value and all(map(_is_checked, value)):
        return [CheckedCall(**one) for one in value]
    calls = []
    for one in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(one, Mapping):
            return None
        function = one.get("function", one)
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            arguments = function.get("arguments") or {}
            if not isinstance(arguments, Mapping):
                return None
            # Null may be left out: a row of Parquet has every argument that any row has.
            values = {k: [None, _OPTIONAL] if v is None else [v] for k, v in arguments.items()}
            calls.append(Wanted(name, values))
        elif len(one) == 1 and isinstance(allowed := next(iter(one.values())), Mapping):
            lists = {k: v if isinstance(v, list | tuple) else [v] for k, v in allowed.items()}
            calls.append(Wanted(next(iter(one)), lists, nested=True))
        else:
            return None
    return calls


def _is_checked(one: Any) -> bool:
    if not isinstance(one, Mapping) or one.keys() != {"name", "allowed", "parameters", "language"}:
        return False
    parts = isinstance(one["allowed"], Mapping) and isinstance(one["parameters"], Mapping)
    return parts and isinstance(one["name"], str) and one["language"] in LANGUAGES


def _is_allowed(given: Any, wanted: Any, nested: bool) -> bool:
    if not (nested and isinstance(given, Mapping) and isinstance(wanted, Mapping)):
        return same_value(given, wanted)
    if not given.keys() <= wanted.keys():
        return False
    lists = {key: v if isinstance(v, list | tuple) else [v] for key, v in wanted.items()}
    return all(
        any(_is_allowed(given[key], value, nested) for value in values)
        if key in given
        else _OPTIONAL in values
        for key, values in lists.items()
    )


def same_value(given: Any, wanted: Any) -> bool:
    """Whether an argument's value is the wanted one.

    Numbers by value (5 is 5.0, and no text), lists and objects part by part, texts without case,
    spaces and the signs `, . / - _ * ^`, as BFCL compares them; full-width forms are usual ones.
    """
    if isinstance(given, str) and isinstance(wanted, str):
        return _plain(given) == _plain(wanted)
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, int | float) and isinstance(wanted, int | float):
        return given == wanted
    if isinstance(given, list | tuple) and isinstance(wanted, list | tuple):
        return len(given) == len(wanted) and all(map(same_value, given, wanted))
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        return given.keys() == wanted.keys() and all(
            same_value(given[key], wanted[key]) for key in given
        )
    return given is None and wanted is None


def _plain(text: str) -> str:
    return _LOOSE.sub("", unicodedata.normalize("NFKC", text)).lower().replace("'", '"')


def tools_chosen(answer: str, wanted: Right) -> float:
    """1.0 where an answer calls just the wanted tools, each as often, in any order."""
    called = Counter(call.name for call in calls_in(answer))
    return float(called == Counter(one.name for one in wanted))


def arguments_right(answer: str, wanted: Right) -> float:
    """1.0 where its calls are the wanted ones with their arguments, in any order, and no others."""
    calls = calls_in(answer)
    checked = [one for one in wanted if isinstance(one, CheckedCall)]
    if checked:
        return float(matched(calls, checked))
    given = [one for one in wanted if isinstance(one, Wanted)]
    return float(len(calls) == len(given) and _matched(calls, given))


def calls_something(answer: str) -> bool:
    """Whether an answer calls tools, all in a way that can be read, as BFCL tells relevance."""
    calls = calls_in(answer)
    return bool(calls) and all(call.arguments is not None for call in calls)


def _matched(calls: Sequence[Call], wanted: list[Wanted]) -> bool:
    """Whether each call can be given a wanted one of its own (augmenting paths)."""
    taken: dict[int, int] = {}

    def place(call: int, seen: set[int]) -> bool:
        for index, one in enumerate(wanted):
            if index not in seen and one.fits(calls[call]):
                seen.add(index)
                if index not in taken or place(taken[index], seen):
                    taken[index] = call
                    return True
        return False

    return all(place(call, set()) for call in range(len(calls)))


@dataclass(frozen=True, slots=True)
class _Calls:
    """What the metrics of calls share: `field` names the row's field with the right calls."""

    field: str = "calls"

    def _spec(self, name: str) -> MetricSpec:
        options = () if self.field == "calls" else (("field", self.field),)
        return MetricSpec(name, "higher", options=options, reads=(self.field,))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._outcome, thoughts=True)

    def _outcome(self, sample: Sample, response: Response) -> Outcome:
        if self.field not in sample.fields:
            return Evidence.unscored(None, f"the row has no field {self.field!r}")
        given = sample.fields[self.field]
        wanted = given if given in (_SOME, _NONE) else wanted_calls(given)
        if wanted is None:
            return Evidence.unscored(None, f"the field {self.field!r} holds no calls")
        return self._value(response.text, wanted)

    def _value(self, answer: str, wanted: Right | str) -> Outcome:
        raise NotImplementedError


class ToolChoice(_Calls):
    """Share of responses that call the right tools, and none where none is right."""

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("tool_choice")

    def _value(self, answer: str, wanted: Right | str) -> Outcome:
        if isinstance(wanted, str):
            return float(calls_something(answer) == (wanted == _SOME))
        # Silence calls nothing, but it is no decision to answer without a tool.
        if says_nothing(without_thoughts(answer)) and not calls_in(answer):
            return silent_as(0.0)
        return tools_chosen(answer, wanted)


class ToolArguments(_Calls):
    """Share of responses whose calls are right as a whole: tools and arguments. A sample in which
    nothing is to be called is unscored.
    """

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("tool_arguments")

    def _value(self, answer: str, wanted: Right | str) -> Outcome:
        if wanted == _SOME:
            return Evidence.unscored(None, "no arguments are known to be right here")
        if not wanted or isinstance(wanted, str):
            return Evidence.unscored(None, "nothing is to be called here")
        return arguments_right(answer, wanted)


class ToolAbstain(_Calls):
    """Share of responses that call nothing and say something, over the samples in which nothing is
    to be called; the others are unscored.
    """

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("tool_abstain")

    def _value(self, answer: str, wanted: Right | str) -> Outcome:
        if wanted == _NONE:
            return float(not calls_something(answer))
        if wanted:
            return Evidence.unscored(None, "something is to be called here")
        if calls_in(answer):
            return 0.0
        return silent_as(0.0) if says_nothing(without_thoughts(answer)) else 1.0


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """Share of responses that say what a tool returned: they hold a reference (see `contains`),
    and
    call no tool again.
    """

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("tool_answer", "higher")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(with_references_that_speak(items), _read_result, silent=silent_as(0.0))


def _read_result(sample: Sample, response: Response) -> Outcome:
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    if calls_in(response.text if response.whole is None else response.whole):
        return 0.0
    return float(any(contains(response.text, reference) for reference in sample.references))
