"""The Chinese table holds every English sentence that pages use, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dashboard.i18n.zh import SENTENCES

ROOT = Path(__file__).parents[3]
TRANSLATED = {"tr": 1, "translate": 1, "empty": 1, "Sentence": 1, "title": 2}
"""Function -> how many of its first arguments are sentences that a reader sees."""

SAME = {"", "A", "B"}
"""Words that are written alike in both languages."""


def _trees(*rooms: str) -> Iterator[ast.AST]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "i18n" not in path.parts:
                yield ast.parse(path.read_text(encoding="utf-8"))


def _of_lines() -> Iterator[ast.AST]:
    """Where the sentences on a line's state are made, which the pages show."""
    yield ast.parse((ROOT / "harness/comparison/line_words.py").read_text(encoding="utf-8"))


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _shown(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that are translated: arguments, keys of `words`, roles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from node.args[: TRANSLATED.get(node.func.id, 0)]
            if node.func.id == "provenance":
                yield from (word.value for word in node.keywords if word.arg == "role")
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("words", "named"):
            yield node.slice


def _sentences(part: ast.expr) -> Iterator[str]:
    """A literal, or both branches of a choice between two."""
    if isinstance(part, ast.IfExp):
        yield from _sentences(part.body)
        yield from _sentences(part.orelse)
    elif isinstance(part, ast.Constant) and isinstance(part.value, str):
        yield part.value


def test_what_pages_show_is_in_the_table() -> None:
    used = set()
    for tree in [*_trees("dashboard"), *_of_lines()]:
        used |= {text for part in _shown(tree) for text in _sentences(part)}
        used |= {text[4:] for text in _strings(tree) if text.startswith("tip_")}
    assert len(used) > 150
    assert sorted(used - set(SENTENCES) - SAME) == []


def test_what_the_table_holds_is_shown() -> None:
    """Words that pages read from the store, such as units and events, are the other rooms' own."""
    known = set()
    for tree in _trees("dashboard", "harness", "trainers"):
        for text in _strings(tree):
            known |= {text, text.removeprefix("tip_"), text.replace("_", " ")}
    assert sorted(set(SENTENCES) - known) == []
