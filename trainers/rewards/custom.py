"""A reward function from a user's own file: found before the training, called in it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError

if TYPE_CHECKING:
    from trainers.rewards.answers import Answers


def by_function(path: str, name: str) -> Callable[[Answers], Sequence[float | None]]:
    """The function at `path` as a component of the mixture. Its file is run. Raises UserError where
    that or a call of the function fails, or gives no list.
    """
    file, attribute = function_file(path, name)
    module_spec = importlib.util.spec_from_file_location(f"ratchet_reward_{name}", file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        function = getattr(module, attribute)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the reward {name!r} can't be loaded: {type(error).__name__}: {error}",
            file=file,
            hint="mend the file, or the NAME behind the colon in `path`",
        ) from error

    def values(answers: Answers) -> Sequence[float | None]:
        keys = dict.fromkeys(key for row in answers.rows for key in row)
        columns = {key: [row.get(key) for row in answers.rows] for key in keys}
        try:
            found: Any = function(
                prompts=list(answers.prompts), completions=list(answers.texts), **columns
            )
        # A program that ends itself with 0 would read as a verdict.
        except (Exception, SystemExit) as error:
            raise UserError(
                f"the reward {name!r} failed: {type(error).__name__}: {error}",
                file=file,
                hint="mend the function: it is called with prompts, completions and the columns",
            ) from error
        if not isinstance(found, Iterable):
            raise UserError(
                f"the reward {name!r} gave {found!r} for {len(answers.texts)} answers",
                file=file,
                hint="return a list with one number, or None, per answer",
            )
        return list(found)

    return values


def function_file(path: str, name: str) -> tuple[str, str]:
    """The file and the function that FILE.py:FUNCTION names. Raises UserError for no such file."""
    file, _, attribute = path.rpartition(":")
    if not Path(file).is_file():
        raise UserError(
            f"the reward {name!r} has no file {file or path!r}",
            field=f"rewards.{name}",
            hint="write `path: FILE.py:FUNCTION`, relative to the recipe",
        )
    return file, attribute


def require_function(file: str, attribute: str, name: str) -> None:
    """Raises UserError where the file can't be parsed, or nothing in it bears that name. It is
    read, not run.
    """
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"), file)
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"the reward {name!r} can't be loaded: {error}",
            file=file,
            line=getattr(error, "lineno", None),
            hint="correct the file",
        ) from None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    if attribute not in found and "*" not in found:
        raise UserError(
            f"the reward {name!r} has no function {attribute!r} in {Path(file).name}",
            file=file,
            hint=f"it has: {', '.join(sorted(found)) or 'none'}",
        )
