"""Answers in JSON: read whole, compared by value, counted by field, held to a schema."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.json_answers import (
    NotJsonError,
    json_fields,
    json_match,
    json_schema,
    json_valid,
    parse_answer,
    same_json,
)
from tests.harness.metrics.item_builders import item

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(max_size=5)
    | st.floats(-1e6, 1e6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@settings(max_examples=100, deadline=None)
@given(
    OBJECT,
    st.randoms(),
    st.sampled_from(["{}", " \n{}\n ", "```json\n{}\n```", "```\n{}\n```", "~~~ json {}~~~"]),
)
def test_json_is_read_whole_and_keys_have_no_order(value, random, frame):
    keys = list(value)
    random.shuffle(keys)
    answer = frame.replace("{}", json.dumps({k: value[k] for k in keys}, indent=2))
    assert json_valid(answer) == 1.0
    assert json_match(answer, json.dumps(value)) == 1.0
    assert json_fields(answer, json.dumps(value)) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        '```json {"a": 1} ```', '```json\n{"a": 1}```', '``` json\n{"a": 1}\n```',
        '~~~json\n{"a": 1}\n~~~', '~~~\n{"a": 1}\n~~~', '\ufeff{"a": 1}',
        '\ufeff```JSON\r\n{"a": 1}\r\n```', '```{"a": 1}```', '```json{"a": 1}```',
        '````json\n{"a": 1}\n````', '```json\n\ufeff{"a": 1}\n```',
        '  ```Json\n\n{"a": 1}\n\n  ```\n',
        '```json\n{"a":\n1}\n````', '~~~~ json {"a": 1} ~~~~',
    ],
)  # fmt: skip
def test_one_fence_around_json_is_allowed(answer):
    assert json_match(answer, '{"a": 1}') == json_valid(answer) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{}\n~~~', "```python\n{}\n```", "```jsonc\n{}\n```", "```json\n{}", "{}\n```",
        "x ```json\n{}\n```", "```json\n{}\n``` x", "```json\n{}\n```\n```json\n{}\n```",
        "```json\n```json\n{}\n```\n```", "``````", "```json ```", "````json\n{}\n```", "``{}``",
        '```json\n{"a": NaN}\n```', "```json\n[]\n```", "``~{}``~",
    ],
)  # fmt: skip
def test_other_frames_around_json_are_not(answer):
    assert json_valid(answer) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "I <think> so", "a </think> b", "<think>x</think>", "[THINK]", "<|channel|>final",
        "assistantfinal", "<reasoning>", "```json\n{}\n```", "~~~",
    ],
)  # fmt: skip
def test_what_looks_like_a_mark_within_a_json_string_is_a_text(text):
    reference = json.dumps({"a": text, "b": 1})
    for metric in ("json_valid", "json_match", "json_fields"):
        for frame in ("{}", "```json\n{}\n```", "<think>hm {{1}}</think>\n{}"):
            answer = frame.replace("{}", reference)
            row = get_metric(metric).score([item(answer, references=[reference])])[0]
            assert row[0].value == 1.0, (metric, frame)
    assert json_valid(f"<think>{reference}</think>") == 0.0


def test_how_deep_and_how_large_json_may_be():
    def nested(levels):
        return '{"a": ' * (levels - 1) + "{}" + "}" * (levels - 1)

    assert json_valid(nested(100)) == 1.0
    assert json_valid(nested(101)) == 0.0
    assert json_valid(f'{{"a": {"9" * 308}}}') == 1.0
    assert json_valid(f'{{"a": {"9" * 310}}}') == 0.0
    assert json_valid(f'{{"a": -{"9" * 310}}}') == 0.0


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    assert json_valid('{"a": 1, "a": 2}') == 1.0
    assert json_match('{"a": 1, "a": 2}', '{"a": 2}') == 1.0
    assert json_match('{"a": 1, "a": 2}', '{"a": 1}') == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "", "{", "[1]", '"x"', "3", "null", "NaN", '{"a": NaN}', '{"a": 1e999}',
        'Sure: {"a": 1}', '{"a": 1} done', '{"a": 1}{"a": 1}', "{'a': 1}", '{"a": 1,}',
        '```json\n{"a": 1}\n``` there', '{"a":' * 200 + "1" + "}" * 200, "\x00", "\ud800",
        '{"a": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_not_exactly_one_json_object(answer):
    assert json_valid(answer) == 0.0
    assert json_match(answer, '{"a": 1}') == 0.0
    assert json_fields(answer, '{"a": 1}') == 0.0
    with pytest.raises(NotJsonError):
        parse_answer(answer)


def test_json_values_are_strict():
    assert same_json({"a": 1}, {"a": 1.0})
    assert not same_json({"a": 1}, {"a": True})
    assert not same_json({"a": "1"}, {"a": 1})
    assert not same_json([1, 2], [2, 1])
    assert not same_json({"a": None}, {})


def test_json_fields_counts_what_is_missing_wrong_and_too_much():
    reference = '{"intent": "pay", "to": {"name": "Li", "ids": [1, 2]}}'
    assert json_fields('{"intent": "pay", "to": {"name": "Bo", "ids": [1]}}', reference) == 2 / 4
    assert json_fields(reference[:-1] + ', "extra": 0}', reference) == 4 / 5
    assert json_fields("{}", "{}") == 1.0


def test_json_schema():
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert [json_schema(x, schema) for x in ('{"a": 1}', '{"a": "1"}', "{}", "no")] == [1, 0, 0, 0]
    with pytest.raises(UserError, match="JSON Schema is wrong"):
        get_metric("json_schema", {"schema": {"type": "nothing"}})


def test_a_reference_that_is_no_json_leaves_the_sample_unscored():
    (evidence,) = get_metric("json_match").score([item('{"a": 1}', references=["not json"])])[0]
    assert evidence.outcome is ScoreOutcome.UNSCORED
    assert "reference" in evidence.reason
