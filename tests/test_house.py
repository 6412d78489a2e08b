"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

THEIRS = frozenset(
    {
        "_exit",  # os, which says itself that it is for forked children
        "_attn_implementation",  # transformers: which attention a model has
        "_generate_and_score_completions",  # TRL: what a group is drawn by
        "_get_per_token_logps_and_entropies",  # TRL: what a reference's answers are worth
        "_loglikelihood_tokens",  # lm-eval: reads token ids, for texts that have no words
        "_load_optimizer_and_scheduler",  # transformers: what a rollback from files calls
    }
)
"""Private names of others' that have no public door."""

NAMED_TUPLES = frozenset({"_asdict", "_fields", "_make", "_replace"})


def private_names(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of each private name that is asked of another object or module."""
    for node in ast.walk(ast.parse(source)):
        for name in _asked_for(node):
            if name.startswith("_") and not name.startswith("__"):
                yield node.lineno, name  # type: ignore[attr-defined]  # each kind below has a line


def _asked_for(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            pass
        case ast.Attribute(attr=name):
            yield name
        case ast.ImportFrom(module=module, names=names):
            yield from (module or "").split(".")
            yield from (alias.name for alias in names)
        case ast.Import(names=names):
            yield from (part for alias in names for part in alias.name.split("."))
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=args):
            if called in ("getattr", "setattr", "delattr", "hasattr", "patch"):
                texts = [a.value for a in args[:2] if isinstance(a, ast.Constant)]
                yield from (p for t in texts if isinstance(t, str) for p in t.split("."))


@pytest.mark.parametrize(
    "source",
    [
        "store._lock",
        "store.open()._lock.held",
        "from harness.store import _rows",
        "from harness.store._rows import rows",
        "import harness._private",
        "monkeypatch.setattr(store, '_lock', None)",
        "monkeypatch.setattr('harness.store._lock', None)",
        "getattr(store, '_lock')",
    ],
)
def test_a_private_name_is_noticed(source: str) -> None:
    assert len(list(private_names(source))) == 1


@pytest.mark.parametrize(
    "source", ["self._lock", "store.__class__", "_mine(1)", "setattr(store, 'lock', None)"]
)
def test_ones_own_names_are_ones_own(source: str) -> None:
    assert not list(private_names(source))


def test_tests_go_through_public_doors() -> None:
    used = [
        (str(path.relative_to(TESTS)), line, name)
        for path in sorted(TESTS.rglob("*.py"))
        for line, name in private_names(path.read_text(encoding="utf-8"))
        if name not in THEIRS | NAMED_TUPLES
    ]
    assert used == []
