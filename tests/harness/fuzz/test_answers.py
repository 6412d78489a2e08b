"""Whatever a model says: code extraction and the JSON metrics give a value or a `UserError`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from harness.metrics import json_answers
from harness.metrics.support.code_extraction import MOST, programs
from harness.metrics.support.thoughts import without_thoughts
from tests.harness.fuzz.budget import fuzz

SHAPES = (Path(__file__).parents[1] / "metrics/code_answers.txt").read_text(encoding="utf-8")
LINES = sorted(set(SHAPES.splitlines()))
PROMPT = 'import math\n\n\ndef add(a, b):\n    """Sum.\n    ```\n    """\n'
PIECES = st.one_of(
    st.sampled_from(LINES),
    st.sampled_from(["```", "~~~", "```python", "````", "<think>", "</think>", '"""', "'''", "\\"]),
    st.sampled_from(["\ufeff", "\r", "\t", "\x00", "\ud800", "，", "\u2028", "\xa0", "\x0c", "> "]),
    st.text(max_size=12),
    st.integers(1, 300).map(lambda n: "(" * n),
)
BREAKS = st.sampled_from(["\n", "\n", "\n", "\n\n", "", " ", "\r\n", "\n    "])


def mixed(pieces: list[tuple[str, str]]) -> str:
    return "".join(piece + between for piece, between in pieces)


def spliced(parts: tuple[str, int, int, str]) -> str:
    """A known answer with something put in the place of a part of it."""
    text, start, length, put = parts
    start %= len(text) + 1
    return text[:start] + put + text[start + length :]


KNOWN = [part.partition("\n")[2] for part in SHAPES.split("%%% ")[1:]]
ANSWERS = st.one_of(
    st.lists(st.tuples(PIECES, BREAKS), max_size=25).map(mixed),
    st.tuples(st.sampled_from(KNOWN), st.integers(0, 2000), st.integers(0, 40), PIECES).map(
        spliced
    ),
)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_code_extraction_gives_programs_or_none() -> None:
    def extract(answer: str) -> None:
        without_thoughts(answer)
        for entry_point in ("add", "Solution().add", None):
            for prompt in ("", PROMPT):
                found = programs(answer, entry_point=entry_point, prompt=prompt)
                assert len(found) <= MOST
                assert len(set(found)) == len(found)
                assert all(type(program) is str and program.strip() for program in found)
                assert found == programs(answer, entry_point=entry_point, prompt=prompt)

    fuzz("code", ANSWERS, extract)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
FRAMES = st.sampled_from(
    ["{}", "```json\n{}\n```", "~~~{}~~~", "```json {}```", "\ufeff{}", "a {} b",
     "<think>x</think>{}", "```\n{}", "{}\n```", "```json\n```{}```\n```", "{}{}"]
)  # fmt: skip
JSON_TEXTS = st.tuples(
    FRAMES, VALUES.map(json.dumps), st.integers(0, 99), st.integers(0, 3), st.text(max_size=3)
)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_json_answers_give_a_value_in_range() -> None:
    def score(parts: tuple[str, str, int, int, str]) -> None:
        frame, text, start, length, put = parts
        answer = spliced((frame.replace("{}", text), start, length, put))
        for reference in ('{"a": 1}', '{"a": {"b": [1, null]}}'):
            for compare in (json_answers.json_match, json_answers.json_fields):
                assert 0 <= compare(answer, reference) <= 1
        valid = json_answers.json_valid(answer)
        assert valid in (0.0, 1.0)
        assert json_answers.json_schema(answer, {"type": "object"}) == valid
        if valid:
            assert json_answers.json_match(answer, answer) == 1.0
            assert json_answers.json_fields(answer, answer) == 1.0

    fuzz("json", JSON_TEXTS, score)
