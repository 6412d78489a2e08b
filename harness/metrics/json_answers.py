"""Answers that should be one JSON object: whether it parses, and equals the reference."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.core.errors import UserError
from harness.core.thoughts import after_thoughts, without_thoughts
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each

_FENCED = re.compile(r"(([`~])\2{2,})[ \t]*(?:json\b)?(.*[^`~])\1\2*", re.DOTALL | re.IGNORECASE)
_SPACE = " \t\r\n\ufeff"

_DEEPEST = 100


class NotJsonError(ValueError):
    """The answer is not exactly one JSON object; the message says what is in the way."""


def parse_answer(answer: str) -> dict[str, Any]:
    """The one JSON object that `answer` consists of.

    The whole answer must be that object: whitespace and a byte-order mark around it and one
    surrounding fence are allowed, a word before or after it is not. A fence is ``` or ~~~ (or more
    of them), named `json` or nothing; both its ends may stand on the object's own lines. What was
    only thought before it doesn't count; a mark of thoughts in one of its strings is a text. By the
    grammar of RFC 8259: no NaN or Infinity, no number beyond a double's range. Of a key that stands
    twice the last one counts, as in the common parsers. At most 100 levels deep. Raises
    NotJsonError.
    """
    for reading in (answer, *after_thoughts(answer)):
        with suppress(NotJsonError):
            return _one_object(reading)
    return _one_object(without_thoughts(answer))


def _one_object(answer: str) -> dict[str, Any]:
    text = answer.strip().strip(_SPACE)
    fenced = _FENCED.fullmatch(text)
    try:
        parsed = json.loads(
            fenced[3].strip(_SPACE) if fenced else text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError as error:
        raise NotJsonError("nested too deeply") from error
    except ValueError as error:
        raise NotJsonError(str(error)) from error
    if not isinstance(parsed, dict):
        raise NotJsonError(f"a JSON {type(parsed).__name__}, not an object")
    if _deeper_than(parsed, _DEEPEST):
        raise NotJsonError(f"nested deeper than {_DEEPEST} levels")
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
    *reference* is not a JSON object.
    """
    expected = parse_answer(reference)
    try:
        return float(same_json(parse_answer(answer), expected))
    except NotJsonError:
        return 0.0


def json_fields(answer: str, reference: str) -> float:
    """Share of fields that agree, 0..1: fields with an equal value over all that either side has.

    A field is a path to a value that is neither an object nor a list (an empty one is a value). A
    field that is missing, wrong or too many costs the same. An answer that is not exactly one JSON
    object scores 0. Raises NotJsonError where the *reference* isn't one JSON object.
    """
    expected = _leaves(parse_answer(reference))
    try:
        given = _leaves(parse_answer(answer))
    except NotJsonError:
        return 0.0
    paths = expected.keys() | given.keys()
    agreeing = sum(same_json(expected[p], given[p]) for p in expected.keys() & given.keys())
    return agreeing / len(paths) if paths else 1.0


def json_schema(answer: str, schema: Mapping[str, Any]) -> float:
    """1.0 where `answer` is exactly one JSON object that fits the JSON Schema, else 0.0.

    The schema's own `$schema` says which draft it is, 2020-12 without one. Nothing is fetched.
    """
    try:
        parsed = parse_answer(answer)
    except NotJsonError:
        return 0.0
    return float(_validator(json.dumps(schema, sort_keys=True)).is_valid(parsed))


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema import validators  # type: ignore[import-untyped]
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]

    parsed = json.loads(schema)
    kind = validators.validator_for(parsed, default=validators.Draft202012Validator)
    try:
        kind.check_schema(parsed)
    except SchemaError as error:
        raise UserError(f"the JSON Schema is wrong: {error.message}", field="schema") from error
    return kind(parsed)


def fields_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of a parsed object under its path (`user.names.0`), as `json_fields` counts."""
    return {".".join(map(str, path)): leaf for path, leaf in _leaves(dict(value)).items()}


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[tuple[str | int, ...], Any] = {}
        for key, child in inner:
            found.update(_leaves(child, (*path, key)))
        return found
    return {path: value} if path else {}


@dataclass(frozen=True, slots=True)
class JsonValid:
    """Share of responses that are exactly one JSON object."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("json_valid", "higher", version="3")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, lambda _, response: json_valid(response.text), thoughts=True)


@dataclass(frozen=True, slots=True)
class JsonMatch:
    """Share of responses whose JSON object equals that of a reference."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("json_match", "higher", version="3")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value, thoughts=True)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        return against_references(sample, response, json_match)


def against_references(sample: Sample, response: Response, compare: Any) -> Outcome:
    """The best `compare(answer, reference)` over the references, unscored where one is not JSON."""
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    try:
        return max(float(compare(response.text, reference)) for reference in sample.references)
    except NotJsonError as error:
        return Evidence.unscored(None, f"the reference is not one JSON object: {error}")


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        inner = [child.values() if isinstance(child, dict) else child for child in layer]
        layer = [x for children in inner for x in children if isinstance(x, dict | list)]
        if not layer:
            return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond a double's range")
    return number


def _whole(digits: str) -> int:
    if len(digits) > 300:
        _finite(digits)
    return int(digits)


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Mean share of JSON fields that agree with the reference (the best one of several)."""

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("json_fields", "higher", version="3")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, lambda s, r: against_references(s, r, json_fields), thoughts=True)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Share of responses that are one JSON object and fit `schema` (written out in the suite)."""

    schema: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.schema, dict):
            raise UserError("the schema must be a mapping", field="schema")
        json_schema("{}", self.schema)

    @property
    def spec(self) -> MetricSpec:
        written = json.dumps(self.schema, sort_keys=True).encode()
        digest = hashlib.sha256(written).hexdigest()[:12]
        return MetricSpec("json_schema", "higher", version="3", options=(("schema", digest),))

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(
            items, lambda _, response: json_schema(response.text, self.schema), thoughts=True
        )
