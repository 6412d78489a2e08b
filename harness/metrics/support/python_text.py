"""What a piece of Python text defines, needs and runs."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache

_ALWAYS_THERE = frozenset((*dir(builtins), "__name__", "__file__", "__doc__"))
_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import\b.*\n?", re.MULTILINE)
_STANDS_FOR_ITSELF = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AugAssign,
    ast.If,
    ast.For,
    ast.While,
    ast.Try,
    ast.With,
)
_CUTS = 5
"""How many times its lines are parsed of one text, and of a short one `_SHORT` lines more."""

_SHORT = 1000

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@lru_cache(maxsize=64)
def parsed(code: str) -> ast.Module | None:
    """The tree of a text that compiles, else None. It is shared: never change it."""
    try:
        return _parse(code)
    except _UNREADABLE:
        return None


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(code)
        # Only the compiler objects to a `return` outside of a function.
        compile(tree, "answer", "exec", dont_inherit=True)
        return tree


def ends_in_a_string(code: str) -> bool:
    """Whether a string in three quotes is still open at the end."""
    if parsed(code) is not None:
        return False
    try:
        _parse(code)
    except SyntaxError as error:
        return "unterminated triple-quoted" in str(error.msg)
    except (ValueError, RecursionError, MemoryError):
        pass
    return False


def longest_prefix(code: str, *, least: int = 1) -> str | None:
    """The first lines that are Python together, at least `least` of them, or None.

    Each error names the line up to which the parser understood; what is before it is tried next.
    """
    lines = code.split("\n")
    left = _CUTS * len(lines) + _SHORT
    while len(lines) >= least and left > 0:
        left -= len(lines) + 1
        try:
            _parse("\n".join(lines))
        except SyntaxError as error:
            lines = lines[: min(max(error.lineno or 1, 1), len(lines)) - 1]
        except (ValueError, RecursionError, MemoryError):
            return None
        else:
            return "\n".join(lines)
    return None


def without_prose(code: str) -> str:
    """Without lines of prose that happen to be Python: `Done`, `说明`, `Note: see above`."""
    return source_of(code, [node for node in ast.parse(code).body if _stands(node)])


def is_code(code: str) -> bool:
    """Whether all of a text is Python, none of it prose that happens to be."""
    tree = parsed(code)
    return tree is not None and bool(tree.body) and all(map(_stands, tree.body))


def _stands(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.ListComp | ast.Await)
    return isinstance(node, _STANDS_FOR_ITSELF) or (
        isinstance(node, ast.AnnAssign) and node.value is not None
    )


def source_of(code: str, nodes: Sequence[ast.stmt]) -> str:
    """The lines of some top-level statements of `code`."""
    lines = code.split("\n")
    kept: list[str] = []
    end = 0
    for node in nodes:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        kept += lines[max(first - 1, end) : node.end_lineno]
        end = node.end_lineno or end
    return "\n".join(kept) + "\n" if kept else ""


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's own statements, those within its `if`, `try`, `with` and loops included."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, name, ()))
        for handler in getattr(node, "handlers", ()):
            yield from statements(handler.body)


@lru_cache(maxsize=256)
def defined(code: str) -> frozenset[str]:
    """Names that the text's own statements bind, imports among them."""
    return bound(code) | frozenset(imported(code))


@lru_cache(maxsize=256)
def bound(code: str) -> frozenset[str]:
    """Names that the text defines or assigns itself."""
    tree = parsed(code)
    names: set[str] = set()
    for node in statements(tree.body if tree else ()):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        else:
            names.update(
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            )
    return frozenset(names)


@lru_cache(maxsize=256)
def imported(code: str) -> dict[str, str]:
    """Names that the text imports, each with the first part of the module it comes from."""
    tree = parsed(code)
    names: dict[str, str] = {}
    for node in statements(tree.body if tree else ()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                names[alias.asname or root] = root
        elif isinstance(node, ast.ImportFrom):
            root = (node.module or "").split(".")[0] if not node.level else ""
            names.update({alias.asname or alias.name: root for alias in node.names})
    return names


def ships_with_python(module: str) -> bool:
    """Whether a module is the standard library's."""
    return module in sys.stdlib_module_names


@lru_cache(maxsize=256)
def needed(code: str) -> frozenset[str]:
    """Names that the text uses and neither binds nor finds among the builtins."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(code, "answer", "exec")
    except _UNREADABLE:
        return frozenset()
    return frozenset(_free(top)) - defined(code) - _ALWAYS_THERE


def _free(table: symtable.SymbolTable) -> Iterator[str]:
    outermost = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (outermost or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _free(inner)


def joined(parts: Sequence[str]) -> str:
    """Texts as one program, `from __future__` before all else, where alone it may stand."""
    whole = "\n".join(part if part.endswith("\n") else part + "\n" for part in parts)
    if len(parts) < 2 or "__future__" not in whole:
        return whole
    hoisted: list[str] = []
    rest: list[str] = []
    for part in parts:
        futures, other = _future_apart(part)
        hoisted += [line for line in futures if line not in hoisted]
        rest.append(other)
    return "\n".join([*hoisted, *rest])


def _future_apart(part: str) -> tuple[list[str], str]:
    tree = parsed(part)
    if tree is None:
        return [line.strip() for line in _FUTURE.findall(part)], _FUTURE.sub("", part)
    found = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    lines = part.split("\n")
    for node in reversed(found):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        # Columns count bytes, and what stands before a statement may be wider than ASCII.
        before = lines[first].encode()[: node.col_offset].decode()
        after = lines[last].encode()[node.end_col_offset :].decode()
        lines[first : last + 1] = [before + after.lstrip("; \t")]
    return [ast.unparse(node) for node in found], "\n".join(lines)
