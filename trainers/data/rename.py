"""The step that adds rows whose code has other names, as long as its tests pass."""

from __future__ import annotations

import ast
import random
import re
import symtable
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.core.parts import require_part
from trainers.data.rows import Done, Drop, Placed
from trainers.data.step import Context, Step

_FENCED = re.compile(r"(?P<before>.*?```(?:python|py)?\n)(?P<code>.*?)(?P<after>```.*)", re.DOTALL)


class Rename(Step):
    """Adds to each row one whose code calls its parameters and local variables otherwise (libcst);
    comments and layout stay. It is kept only if the tests in the row's column `tests` pass in the
    sandbox, of a strength of `minimum` or more; a row without tests is left as it is. `code` is the
    column of the code, by itself or as the only fenced block; the column `entry_point` names the
    function that the tests call, else it is the last one.
    """

    VERSION: ClassVar[int] = 1
    code: str = Field(default="completion", min_length=1)
    tests: str = Field(default="tests", min_length=1)
    minimum: Literal["A", "B", "C"] = "B"

    def reads(self, context: Context) -> Any:
        from importlib.metadata import version

        require_part("augment", "libcst")
        return version("libcst")

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        from harness.sandbox.outcome import Job
        from harness.sandbox.pool import Sandbox

        found = ((n, self._made(name, placed, context.seed)) for n, placed in enumerate(rows))
        made = {number: child for number, child in found if child is not None}
        jobs = [Job.of_tests(code, tests, entry) for _, code, tests, entry in made.values()]
        outcomes = []
        if jobs:
            with Sandbox(minimum=self.minimum) as sandbox:
                outcomes = sandbox.run_many(jobs)
        passed = dict(zip(made, outcomes, strict=True))
        kept: list[Placed] = []
        drops: list[Drop] = []
        for number, placed in enumerate(rows):
            kept.append(placed)
            if number not in made:
                continue
            child, outcome = made[number][0], passed[number]
            if outcome.label == "pass":
                kept.append(child)
            else:
                drops.append(Drop(child, name, "its tests don't pass", outcome.label))
        return kept, drops

    def _made(self, name: str, placed: Placed, seed: int) -> tuple[Placed, str, str, str] | None:
        """The row with other names, its code, its tests, and what they call; None where there is
        nothing to rename, or to test it by.
        """
        written, tests = placed.row.get(self.code), placed.row.get(self.tests)
        if not isinstance(written, str) or not isinstance(tests, str) or not tests.strip():
            return None
        fenced = _FENCED.fullmatch(written)
        code = fenced["code"] if fenced else written
        renamed = renamed_code(code, random.Random(f"{seed}|{name}|{placed.id}"))
        if renamed is None:
            return None
        entry = placed.row.get("entry_point") or _last_function(code)
        if not isinstance(entry, str):
            return None
        whole = f"{fenced['before']}{renamed}{fenced['after']}" if fenced else renamed
        return placed.child({**placed.row, self.code: whole}, name, 0), renamed, tests, entry


def renamed_code(code: str, chance: random.Random) -> str | None:
    """The code with other names for what its functions alone know; None for what is no Python, or
    has no such name.
    """
    try:
        table = symtable.symtable(code, "row", "exec")
        taken = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    except (SyntaxError, ValueError, RecursionError):
        return None
    own, others = set(_own(table)), set(_shared(table))
    names = sorted(own - others)
    if not names:
        return None
    free = [f"{letter}{n}" for letter in "abcdeghkmnpqrstuvwxyz" for n in range(1, 40)]
    free = [name for name in free if name not in taken | own | others]
    if len(free) < len(names):
        return None
    return _with_names(code, dict(zip(names, chance.sample(free, len(names)), strict=True)))


def _own(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that a function binds: its parameters and local variables."""
    for child in table.get_children():
        if child.get_type() == "function":
            for symbol in child.get_symbols():
                if symbol.is_local() and not symbol.is_namespace() and not symbol.is_imported():
                    yield symbol.get_name()
        yield from _own(child)


def _shared(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that mean something beyond a function: of modules, classes, imports, and builtins."""
    yield from ("self", "cls", ".0")
    for symbol in table.get_symbols():
        bound = table.get_type() != "function" and symbol.is_assigned()
        if bound or symbol.is_global() or symbol.is_imported() or symbol.is_namespace():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _shared(child)


def _with_names(code: str, instead: dict[str, str]) -> str | None:
    import libcst

    class Renaming(libcst.CSTTransformer):
        """What stands behind a point, or names an argument of a call, is somebody else's name."""

        def visit_Attribute_attr(self, node: libcst.Attribute) -> None:  # noqa: N802
            self.kept.add(node.attr)

        def visit_Arg_keyword(self, node: libcst.Arg) -> None:  # noqa: N802
            if node.keyword is not None:
                self.kept.add(node.keyword)

        def __init__(self) -> None:
            super().__init__()
            self.kept: set[libcst.CSTNode] = set()

        def leave_Name(  # noqa: N802
            self, original_node: libcst.Name, updated_node: libcst.Name
        ) -> libcst.Name:
            other = instead.get(original_node.value)
            if other is None or original_node in self.kept:
                return updated_node
            return updated_node.with_changes(value=other)

    try:
        return libcst.parse_module(code).visit(Renaming()).code
    except (libcst.ParserSyntaxError, RecursionError):
        return None


def _last_function(code: str) -> str | None:
    found = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    return found[-1] if found else None
