"""Answers that ought to be one JSON object: valid at all, and equal to the reference."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.items import Outcome, score_each
from harness.records import Response, Sample

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```", re.DOTALL)


class NotJsonError(ValueError):
    """The answer is not exactly one JSON object; the message says what is in the way."""


def parse_answer(answer: str) -> dict[str, Any]:
    """The one JSON object that `answer` consists of.

    The whole answer must be that object: whitespace around it and one surrounding ```json fence
    are allowed, a word before or after it is not. Strict as RFC 8259: no NaN or Infinity, no
    number beyond a double's range, no key twice. Raises NotJsonError.
    """
    text = answer.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        parsed = json.loads(
            fenced.group(1) if fenced else text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except RecursionError as error:
        raise NotJsonError("nested too deeply") from error
    except ValueError as error:
        raise NotJsonError(str(error)) from error
    if not isinstance(parsed, dict):
        raise NotJsonError(f"a JSON {type(parsed).__name__}, not an object")
    return parsed


def same_json(left: Any, right: Any) -> bool:
    """Equality of parsed JSON: the order of keys is free, everything else is strict.

    `1` equals `1.0` (JSON has one kind of number), but `true` is not `1` and `"1"` is not `1`.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def json_valid(answer: str) -> float:
    """1.0 where `answer` is exactly one JSON object (see `parse_answer`), else 0.0."""
    try:
        parse_answer(answer)
    except NotJsonError:
        return 0.0
    return 1.0


def json_match(answer: str, reference: str) -> float:
    """1.0 where `answer` is exactly one JSON object and equals `reference`, else 0.0.

    Extraction as in `parse_answer`, equality as in `same_json`. Raises NotJsonError where the
    *reference* is no JSON object.
    """
    expected = parse_answer(reference)
    try:
        return float(same_json(parse_answer(answer), expected))
    except NotJsonError:
        return 0.0


@dataclass(frozen=True, slots=True)
class JsonValid:
    """Share of responses that are exactly one JSON object."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("json_valid", "higher")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, lambda _, response: json_valid(response.text))


@dataclass(frozen=True, slots=True)
class JsonMatch:
    """Share of responses whose JSON object equals that of a reference."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("json_match", "higher")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        return against_references(sample, response, json_match)


def against_references(sample: Sample, response: Response, compare: Any) -> Outcome:
    """The best `compare(answer, reference)` over the references, unscored where one is no JSON."""
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    try:
        return max(float(compare(response.text, reference)) for reference in sample.references)
    except NotJsonError as error:
        return Evidence.unscored(None, f"the reference is not one JSON object: {error}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond a double's range")
    return number
