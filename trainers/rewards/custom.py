"""A reward function from a user's own file: found before the training, called in it."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    if not callable(function):
        raise UserError(
            f"the reward {name!r} is {type(function).__name__} and not a function: {attribute}",
            file=file,
            hint="name a function behind the colon in `path`",
        )
    return _Asked(function, name, file)


class _Asked:
    """A user's function under the customs of TRL and of older recipes alike.

    It is called by name with `prompts` (message lists), `completions`, every column of the data,
    `completion_ids` and `trainer_state`; one without `**kwargs` gets of these what it names. It may
    be a coroutine function. `completions` are texts; a function that can't work with texts, and
    can with TRL's message lists (`completion[0]["content"]`), gets those from its first call on.
    """

    def __init__(self, function: Callable[..., Any], name: str, file: str) -> None:
        self._function, self._name, self._file = function, name, file
        self._takes = _parameters(function)
        self._messages: bool | None = None

    def __call__(self, answers: Answers) -> Sequence[float | None]:
        try:
            found = self._called(answers)
        # A program that ends itself with 0 would read as a verdict.
        except (Exception, SystemExit) as error:
            raise UserError(
                f"the reward {self._name!r} failed: {type(error).__name__}: {error}",
                file=self._file,
                hint="mend the function: it is called with prompts, completions and the columns",
            ) from error
        if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
            raise UserError(
                f"the reward {self._name!r} gave {found!r} for {len(answers.texts)} answers",
                file=self._file,
                hint="return a list with one number, or None, per answer",
            )
        return list(found)

    def _called(self, answers: Answers) -> Any:
        if self._messages is not None:
            return self._call(answers, messages=self._messages)
        try:
            found = self._call(answers, messages=False)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            try:
                found = self._call(answers, messages=True)
            except Exception:  # noqa: BLE001  a user's program may fail in any way
                # What it says of texts is what its reader can act on.
                raise error from None
            self._messages = True
            return found
        self._messages = False
        return found

    def _call(self, answers: Answers, *, messages: bool) -> Any:
        keys = dict.fromkeys(key for row in answers.rows for key in row)
        said: list[Any] = list(answers.texts)
        if messages:
            said = [[{"role": "assistant", "content": text}] for text in answers.texts]
        given: dict[str, Any] = {key: [row.get(key) for row in answers.rows] for key in keys}
        given.update(answers.beside)
        given.update(prompts=[list(prompt) for prompt in answers.prompts], completions=said)
        if self._takes is not None:
            given = {key: value for key, value in given.items() if key in self._takes}
        found = self._function(**given)
        return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: Any) -> Any:
    return await found


def _parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names that it takes; None where it takes any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return frozenset(p.name for p in found if p.kind is not p.POSITIONAL_ONLY)


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
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign) and not isinstance(
            node.value, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Set | ast.JoinedStr
        ):
            names = (name for target in node.targets for name in ast.walk(target))
            found.update(name.id for name in names if isinstance(name, ast.Name))
    if attribute not in found and "*" not in found:
        raise UserError(
            f"the reward {name!r} has no function {attribute!r} in {Path(file).name}",
            file=file,
            hint=f"it has: {', '.join(sorted(found)) or 'none'}",
        )
