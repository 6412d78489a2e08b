"""Text is text: what is rendered is what a template says, and never a dump of a value."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jinja2 import Environment, TemplateSyntaxError

from harness.data.templates import TemplateError, render, system_turn

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ m }}",
        "{{ m[0] }}",
        "{{ m | string }}",
        "{{ 'Q: ' ~ m }}",
        "{{ '%s' | format(m) }}",
        "{{ '{}'.format(m) }}",
        "{{ m | join(' ') }}",
        "{{ m | upper }}",
        "{{ parts }}",
        "{% for turn in m %}{{ turn }}{% endfor %}",
        "{{ one.content }}",
        "{{ raw }}",
    ],
)
def test_a_list_or_a_mapping_where_text_is_meant_is_refused_and_shown(source: str) -> None:
    row = {
        "m": TURNS,
        "parts": ["a", "b"],
        "one": {"content": [{"type": "text", "text": "Hi"}]},
        "raw": b"bytes",
    }
    with pytest.raises(TemplateError) as caught:
        render(source, row)
    said = str(caught.value)
    assert "stands where text is meant; the row would read" in said
    assert "tojson" in said


def test_the_text_within_is_reached_and_json_is_asked_for_by_name() -> None:
    row = {"m": TURNS, "tags": ["x", "é"], "n": 3, "ok": True}
    assert render("{{ m[-1].content }}", row) == "Hello"
    assert render("{% for t in m %}{{ t.role }}: {{ t.content }}\n{% endfor %}", row) == (
        "user: Hi\nassistant: Hello\n"
    )
    assert render("{{ tags | join(', ') }}, {{ n }}, {{ ok }}", row) == "x, é, 3, True"
    assert render("{{ tags | length }}{{ 'x' in tags }}{{ tags == ['x', 'é'] }}", row) == (
        "2TrueTrue"
    )
    assert render("{{ m | tojson }}", row) == json.dumps(TURNS)
    assert render("{{ tags }}", row, meant="json") == '["x","é"]'


def test_an_answer_may_be_an_object_and_a_list_only_where_json_is_meant() -> None:
    row = {"answer": {"城市": ["北京", 1]}, "answers": ["Paris", "paris"]}
    assert render("{{ answer }}", row, meant="object") == '{"城市":["北京",1]}'
    with pytest.raises(TemplateError, match="a list stands where text is meant"):
        render("{{ answers }}", row, meant="object")
    with pytest.raises(TemplateError, match="a mapping stands"):
        render("so: {{ 'x' ~ answer }}", row, meant="json")


def test_tojson_writes_characters_as_they_are_and_keys_in_order() -> None:
    row = {"x": {"z": '李\'s <b> & "q"', "a": 1}}
    assert render("{{ x | tojson }}", row) == '{"z": "李\'s <b> & \\"q\\"", "a": 1}'
    assert render("{{ x | tojson(indent=2) }}", row) == json.dumps(
        row["x"], ensure_ascii=False, indent=2
    )
    assert render("{{ x | tojson(sort_keys=true) }}", row).startswith('{"a"')
    with pytest.raises(TemplateError, match="fails on this row"):
        render("{{ x | tojson }}", {"x": float("inf")})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_tojson_can_be_read_back(value: object) -> None:
    assert json.loads(render("{{ x | tojson }}", {"x": value})) == value


@given(VALUES)
def test_a_value_is_text_or_refused(value: object) -> None:
    try:
        said = render("{{ x }}", {"x": value})
    except TemplateError:
        assert value is None or isinstance(value, list | dict)
    else:
        assert said == str(value)


@pytest.mark.parametrize(
    "source", ["{{ 1 / 0 }}", "{{ x / 0 }}", "{{ x.foo.bar }}", "{{", "{{ x() }}"]
)
def test_a_template_that_fails_is_its_writers_error(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source, {"x": 1})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ q.upper }}", "the function 'upper' stands where text is meant"),
        ("{{ order.items }}", "`FIELD['items']`"),
        ("{{ order.values }}", "the function 'values'"),
        ("{{ range }}", "the function '"),
        ("{{ dict }}", "the function 'dict'"),
        ("{% macro m() %}x{% endmacro %}{{ m }}", "the function 'Macro'"),
        ("{{ tags | map('upper') }}", "join(' ')"),
        ("{{ tags | select }}", "join(' ')"),
        ("{{ order.keys() }}", "join(' ')"),
        ("{{ m[5].content }}", "a list has no element 5"),
        ("{{ order.colour }}", "a mapping has no attribute 'colour'"),
    ],
)
def test_what_has_no_text_of_its_own_is_refused(source: str, said: str) -> None:
    row = {"q": "x", "order": {"items": "two", "values": 1}, "tags": ["a", "b"], "m": TURNS}
    with pytest.raises(TemplateError) as caught:
        render(source, row)
    assert said in str(caught.value)
    assert "harness" not in str(caught.value)


def test_values_with_a_text_of_their_own_are_written_out() -> None:
    row = {
        "order": {"items": "two"},
        "tags": ["a", "b"],
        "day": date(2026, 2, 3),
        "price": Decimal("1.50"),
        "took": timedelta(minutes=1),
        "key": UUID(int=1),
        "count": np.int64(3),
        "share": np.float32(0.5),
    }
    assert render("{{ order['items'] }} {{ tags | map('upper') | join }}", row) == "two AB"
    assert render("{{ day }} {{ price }} {{ took }} {{ key }}", row) == (
        "2026-02-03 1.50 0:01:00 00000000-0000-0000-0000-000000000001"
    )
    assert render("{{ count }} {{ share }} {{ tags.index('b') }} {{ loop is defined }}", row) == (
        "3 0.5 1 False"
    )
    assert render("{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}", row) == "xy"


@pytest.mark.parametrize("escape", ["\\ud83d", "\\udc00x"])
def test_a_template_writes_no_half_character(escape: str) -> None:
    with pytest.raises(TemplateError, match="half a character"):
        render("{{ '" + escape + "' }}", {})


@pytest.mark.parametrize(
    ("source", "row", "turn"),
    [
        ("{{ s }}", {"s": "Be brief."}, "Be brief."),
        ("{{ s }}", {"s": None}, ""),
        ("{{ s }}", {"s": float("nan")}, ""),
        ("{{ s }}", {"s": ""}, ""),
        ("{{ s or '' }}", {"s": None}, ""),
        ("{% if s %}{{ s }}{% endif %}", {"s": None}, ""),
        ("{{ s }}{{ r }}", {"s": None, "r": None}, ""),
        ("You are {{ s }}.", {"s": "a bot"}, "You are a bot."),
    ],
)
def test_a_row_may_lack_a_system_turn(source: str, row: dict[str, object], turn: str) -> None:
    assert system_turn(source, row) == turn


@pytest.mark.parametrize(
    ("source", "row"),
    [
        ("You are {{ s }}.", {"s": None}),
        ("{{ nowhere }}", {}),
        ("{{ s }}", {"s": ["a"]}),
        ("{{ s }}{{ r }}", {"s": None, "r": "x"}),
    ],
)
def test_a_hole_in_a_system_turn_is_an_error(source: str, row: dict[str, object]) -> None:
    with pytest.raises(TemplateError):
        system_turn(source, row)


HOLES = ("{{ a }}", "{{b}}", "{{  a  }}", "{{ none }}", "{{ true }}", "{{ a | trim }}", "{{- b }}")
REST = ("{% if a %}", "{% endif %}", "{# c #}", "text", "\n", "\r\n", " ", "{", "}", "}}", "#}")
PIECES = st.sampled_from((*HOLES, *REST))


@given(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=5), st.text(max_size=5))
def test_what_is_joined_without_jinja_reads_as_jinja_writes_it(source: str, a: str, b: str) -> None:
    fields = {"a": a, "b": b, "none": "field", "true": "field"}
    plain = Environment(keep_trailing_newline=True)
    try:
        expected = plain.from_string(source).render(fields)
    except TemplateSyntaxError:
        with pytest.raises(TemplateError):
            render(source, fields)
        return
    assume("{{ none }}" not in source)  # a null is refused
    assert render(source, fields) == expected
