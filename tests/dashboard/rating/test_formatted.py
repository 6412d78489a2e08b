"""Markdown, code and mathematics of answers become trees of known tags, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.rating.formatted import LONGEST, MATH_TAGS, TAGS, formatted
from tests.dashboard.rating.rating_builders import HOSTILE


def tags(node):
    return set() if isinstance(node, str) else {node[0]}.union(*map(tags, node[1:]))


def words(node):
    return node if isinstance(node, str) else "".join(map(words, node[1:]))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("Plain words,\nand 3 * 4 = 12.\n\nMore.", None),
        ("It costs $5, and $6 with tax.", None),
        ("**b**", ["strong", "b"]),
        ("`x < 1`", ["code", "x < 1"]),
        ("```py\nx = 1\n```", ["pre", ["code", "x = 1\n"]]),
        ("# 标题", ["h1", ["", "标题"]]),
        ("3. c", ["ol:3", ["li", ["p", ["", "c"]]]]),
        ("$x^2$", ["math", ["mrow", ["msup", ["mi", "x"], ["mn", "2"]]]]),
        (r"\(x^2\)", ["math", ["mrow", ["msup", ["mi", "x"], ["mn", "2"]]]]),
        ("$$\nx^2\n$$", ["math", ["mrow", ["msup", ["mi", "x"], ["mn", "2"]]]]),
        (r"\(\foo{\)", ["code", r"\(\foo{\)"]),
        ("[here](http://evil.example)", ["a", "here", " (http://evil.example)"]),
        ("![x](http://evil.example/y.png)", ["img", "![x](http://evil.example/y.png)"]),
        ("**x**" * (LONGEST // 4), None),
    ],
)
def test_what_is_written_is_what_is_shown(text, tree):
    found = formatted(text)
    if tree is None:
        assert found is None
    else:
        assert json.dumps(tree) in json.dumps(found)


def test_html_is_words():
    found = formatted(HOSTILE + "\n<b>bold</b> &lt; <!-- no --> **x**")
    assert "<script>window.hacked = 1</script>" in words(found)
    assert "&lt;" in words(found)
    assert tags(found) <= TAGS | {""}


def test_a_formula_has_no_address_and_no_style():
    found = formatted(r"$\href{javascript:alert(1)}{x} \color{red}{y} \text{<img src=x>}$")
    assert "javascript" not in json.dumps(found) or tags(found) <= {"", "p", "code"}
    assert tags(found) <= TAGS | MATH_TAGS | {""}


MARKS = [
    "*",
    "**",
    "_",
    "`",
    "```",
    ">",
    "#",
    "|",
    "---",
    "[",
    "](",
    ")",
    "!",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "rac",
    "{",
    "}",
    "^",
    "&lt;",
    "<b>",
    "</b>",
    "<script>",
    "~~",
    "\\",
    "http://x.y",
    "<http://x.y>",
    "中文",
    "🙂",
    "é",
    "a",
    "b",
]
PIECES = st.sampled_from([*MARKS, "\n", "\n\n", "- ", "1. ", "7) ", "    ", "\t", "b c"])


@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
def test_any_text_is_known_tags_and_its_own_words(text):
    found = formatted(text)
    if found is None:
        return
    assert {tag.partition(":")[0] for tag in tags(found)} <= TAGS | MATH_TAGS | {""}
    json.dumps(found)
    for letter in set(words(found)):
        if letter.isascii() and letter.isalpha() and not tags(found) & MATH_TAGS:
            assert letter in text
