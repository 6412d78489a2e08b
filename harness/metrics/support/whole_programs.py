"""Which part of an answer is the program that reads stdin and prints."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from harness.metrics.support.python_text import (
    defined,
    imported,
    joined,
    needed,
    parsed,
    statements,
)

_TRIES_A_PROGRAM = frozenset(("unittest", "pytest", "doctest", "subprocess", "solution"))
_IN = frozenset(("input", "stdin", "fileinput"))
_OUT = frozenset(("print", "stdout"))
_STDIN_FILES = frozenset((0, "/dev/stdin"))


def find(pieces: Sequence[str]) -> str | None:
    """The whole program among pieces of code, with the pieces that it needs; or None.

    It is the last that reads stdin and prints when it is run. A piece that only calls what a whole
    program before it defines shows that one, and is no version of its own; one that imports the
    solution or a test runner tries it. Where none does both, one that reads, then one that prints.
    """
    usable = [p for p in pieces if not _TRIES_A_PROGRAM & set(imported(p).values())] or pieces
    found = [(number, _with_needs(usable, number)) for number in reversed(range(len(usable)))]
    does = {number: _does(joined([usable[n] for n in parts])) for number, parts in found}
    for wanted in ({"reads", "prints"}, {"reads"}, {"prints"}):
        for number, parts in found:
            if wanted <= does[number]:
                shown = [n for n in parts if n < number and wanted <= does[n]]
                chosen = dict(found)[max(shown)] if shown else parts
                return joined([usable[n] for n in chosen])
    return None


def _with_needs(pieces: Sequence[str], number: int) -> list[int]:
    """The piece after those whose definitions it uses; what is defined only later comes first."""
    earlier: list[int] = []
    later: list[int] = []
    missing = needed(pieces[number])
    for places, kept in (
        (range(number - 1, -1, -1), earlier),
        (range(number + 1, len(pieces)), later),
    ):
        for other in places:
            gives = defined(pieces[other])
            if missing & gives:
                kept.append(other)
                missing = (missing | needed(pieces[other])) - gives
    return [*later, *sorted(earlier), number]


def _does(code: str) -> set[str]:
    """Whether a text `reads` stdin and `prints` when it is run: what is only defined does not."""
    tree = parsed(code)
    body = list(tree.body) if tree else []
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    named = {node.name: node for node in statements(body) if isinstance(node, kinds)}
    waiting: list[ast.AST] = [node for node in body if not isinstance(node, kinds)]
    does: set[str] = set()
    while waiting:
        for part in ast.walk(waiting.pop()):
            word = _word(part)
            if word in _IN or _reads_a_file(part):
                does.add("reads")
            if word in _OUT:
                does.add("prints")
            if word in named:
                waiting.append(named.pop(word))
    return does


def _word(part: ast.AST) -> str:
    match part:
        case ast.Name(id=word, ctx=ast.Load()) | ast.Attribute(attr=word) | ast.alias(name=word):
            return word
    return ""


def _reads_a_file(part: ast.AST) -> bool:
    """`open(0)`, `os.read(0, n)`, `Path("/dev/stdin").read_text()`."""
    match part:
        case ast.Call(func=called, args=[ast.Constant(value=file), *_]):
            opens = _word(called) in ("open", "read", "Path", "fdopen", "FileIO")
            return opens and type(file) in (int, str) and file in _STDIN_FILES
    return False
