"""Tests that hold only in the program's own process, told by their text alone."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from functools import lru_cache

_CALLED = frozenset(
    {
        *("issubclass", "vars", "id", "dir", "redirect_stdout", "redirect_stderr", "patch"),
        *("setrecursionlimit", "set_int_max_str_digits", "getcontext", "setcontext"),
        *("localcontext", "setlocale", "chdir", "putenv", "open", "write_text", "write_bytes"),
    }
)
"""What looks into an object, or changes what the program sees of its own process."""

_MODULES = frozenset(
    {
        *("concurrent", "dis", "doctest", "gc", "inspect", "multiprocessing", "shutil", "tempfile"),
        *("threading", "weakref"),
    }
)
_ANSWERED = frozenset(
    f"__{name}__"
    for name in (
        *("name", "init", "main", "file", "version", "eq", "ne", "lt", "le", "gt", "ge"),
        *("len", "iter", "next", "call", "getitem", "setitem", "delitem", "contains", "hash"),
        *("str", "repr", "bool", "enter", "exit", "add", "sub", "mul", "truediv", "neg"),
    )
)
"""Names between double underscores that an object across the wall has, too."""


@lru_cache(maxsize=1024)
def need_one_process(tests: str) -> bool:
    """Whether tests ask what only the program's own process can answer rightly.

    That is whether two things are one object; what an object is made of (`__dict__`, `__doc__`,
    `issubclass`); classes that derive from the program's; threads that call it; and changes to what
    it sees: its standard output and input, its files, the builtins, the recursion limit, a seed for
    nobody else. The program has no say in it.
    """
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    imported = {bound: module for node in nodes for bound, module in _imports(node)}
    own = {*dir(builtins), *imported}
    own |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)} - {"candidate"}
    calls = {name for node in nodes if isinstance(node, ast.Call) for name in _names(node.func)}
    written = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    if (_CALLED - written) & calls or _seeds_the_program(nodes, imported):
        return True
    return any(_needs(node, imported, own) for node in nodes)


def _needs(node: ast.AST, imported: dict[str, str], own: set[str]) -> bool:
    match node:
        case ast.Compare():
            return _asks_for_identity(node, own)
        case ast.Attribute(attr="__name__", value=ast.Call()):
            return True
        case ast.Attribute(attr=name, ctx=ast.Load()):
            return name.startswith("__") and name.endswith("__") and name not in _ANSWERED
        case (
            ast.Attribute(value=ast.Name(id=name), ctx=ast.Store())
            | ast.Subscript(value=ast.Attribute(value=ast.Name(id=name)), ctx=ast.Store())
        ):
            return name in imported
        case ast.Name(id=name):
            return imported.get(name) in _MODULES
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id not in own for base in bases)
    return False


def _asks_for_identity(node: ast.Compare, own: set[str]) -> bool:
    def named_by_the_program(side: ast.expr) -> bool:
        return isinstance(side, ast.Name) and side.id not in own

    def is_the_programs_type(left: ast.expr, right: ast.expr) -> bool:
        return _is_a_type(left) and named_by_the_program(right)

    sides = [node.left, *node.comparators]
    if any(map(is_the_programs_type, sides, sides[1:])) or any(
        map(is_the_programs_type, sides[1:], sides)
    ):
        return True
    return any(
        isinstance(how, ast.Is | ast.IsNot)
        and not (_is_told(left) or _is_told(right))
        and not (named_by_the_program(left) and named_by_the_program(right))
        for how, left, right in zip(node.ops, sides, sides[1:], strict=False)
    )


def _is_told(side: ast.expr) -> bool:
    """Whether identity with it means the same on both sides of the wall: None, True, a number; an
    enumeration's member; the type of something.
    """
    match side:
        case ast.Constant(value=value):
            return value is not ...
        case ast.Attribute():
            return True
    return _is_a_type(side)


def _is_a_type(side: ast.expr) -> bool:
    return isinstance(side, ast.Call) and getattr(side.func, "id", "") == "type"


def _seeds_the_program(nodes: list[ast.AST], imported: dict[str, str]) -> bool:
    """Whether tests call `random.seed` and draw nothing themselves."""
    used = {
        called.attr if isinstance(called, ast.Attribute) else called.id
        for node in nodes
        if isinstance(node, ast.Call)
        for called in (node.func,)
        if (isinstance(called, ast.Name) and imported.get(called.id) == "random")
        or (
            isinstance(called, ast.Attribute)
            and isinstance(called.value, ast.Name)
            and imported.get(called.value.id) == "random"
        )
    }
    return used == {"seed"}


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            root = alias.name.split(".")[0]
            yield alias.asname or root, root
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, (node.module or "").split(".")[0]


def _names(called: ast.expr) -> Iterator[str]:
    """`mock.patch.object` gives object, patch and mock."""
    while isinstance(called, ast.Attribute):
        yield called.attr
        called = called.value
    if isinstance(called, ast.Name):
        yield called.id
