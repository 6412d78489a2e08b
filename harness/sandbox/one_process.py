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
    # What is caught is an exception on either side of the wall.
    caught = {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    met = _met(nodes)
    return any(_needs(node, imported, own, met) for node in nodes if not _asks_a(caught, node))


def _asks_a(caught: set[str], node: ast.AST) -> bool:
    """Whether it is `error.__class__` or `type(error).__name__`, with such a name for `error`."""
    match node:
        case (
            ast.Attribute(attr="__class__", value=ast.Name(id=name))
            | ast.Attribute(attr="__name__", value=ast.Call(args=[ast.Name(id=name)]))
        ):
            return name in caught
    return False


def _needs(node: ast.AST, imported: dict[str, str], own: set[str], met: set[str]) -> bool:
    match node:
        case ast.Compare():
            return _asks_for_identity(node, own, met)
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


def _asks_for_identity(node: ast.Compare, own: set[str], met: set[str]) -> bool:
    """`met` are the tests' names for what a call gave or was given: there, being one object and
    being equal are two things. For True, None and numbers they are not.
    """

    def named_by_the_program(side: ast.expr) -> bool:
        return isinstance(side, ast.Name) and side.id not in own

    def is_the_programs_type(left: ast.expr, right: ast.expr) -> bool:
        return _is_a_type(left) and named_by_the_program(right)

    def is_an_object(side: ast.expr) -> bool:
        while isinstance(side, ast.Subscript):
            side = side.value
        match side:
            case ast.Constant(value=value):
                return value is ...
            case ast.Name(id=name):
                return name in met or name in dir(builtins) or name not in own
        return isinstance(side, ast.Call) and not _is_a_type(side)

    for how, left, right in zip(
        node.ops, [node.left, *node.comparators], node.comparators, strict=False
    ):
        if is_the_programs_type(left, right) or is_the_programs_type(right, left):
            return True
        if not isinstance(how, ast.Is | ast.IsNot):
            continue
        if named_by_the_program(left) and named_by_the_program(right):
            continue
        if is_an_object(left) and is_an_object(right):
            return True
    return False


def _met(nodes: list[ast.AST]) -> set[str]:
    """Names that are given to a call, or hold what one gave."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            found |= {arg.id for arg in node.args if isinstance(arg, ast.Name)}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            found |= {to.id for to in node.targets if isinstance(to, ast.Name)}
    return found


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
