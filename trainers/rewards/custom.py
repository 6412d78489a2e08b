"""A reward function from a user's own file: found before the training, called in it."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Thread
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
    be a coroutine function; all its calls share one event loop. What it is given is its own: what
    it changes of it, nobody else sees.

    `completions` are texts. A function that takes a text for a list of messages
    (`completion[0]["content"]`), and says so by its error, gets TRL's message lists from then on;
    any other error, and any after it has worked with texts, is its own.
    """

    def __init__(self, function: Callable[..., Any], name: str, file: str) -> None:
        self._function, self._name, self._file = function, name, file
        self._takes = _parameters(function)
        self._messages = self._texts = False

    def __call__(self, answers: Answers) -> Sequence[float | None]:
        try:
            found = self._called(answers)
            if isinstance(found, Iterable) and not isinstance(found, str | Mapping):
                # A generator's program runs only here.
                return list(found)
        # A program that ends itself with 0 would read as a verdict.
        except (Exception, SystemExit) as error:
            raise UserError(
                f"the reward {self._name!r} failed: {type(error).__name__}: {error}",
                file=self._file,
                hint="mend the function: it is called with prompts, completions and the columns",
            ) from error
        raise UserError(
            f"the reward {self._name!r} gave {found!r} for {len(answers.texts)} answers",
            file=self._file,
            hint="return a list with one number, or None, per answer",
        )

    def _called(self, answers: Answers) -> Any:
        try:
            found = self._call(answers, messages=self._messages)
            # Of empty texts nothing can be told: a loop over one does nothing.
            self._texts = self._texts or (not self._messages and any(answers.texts))
            return found
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if self._messages or self._texts or not _took_a_text_for_messages(error):
                raise
            try:
                found = self._call(answers, messages=True)
            except Exception:  # noqa: BLE001  a user's program may fail in any way
                # What it says of texts is what its reader can act on.
                raise error from None
            self._messages = True
            return found

    def _call(self, answers: Answers, *, messages: bool) -> Any:
        keys = dict.fromkeys(key for row in answers.rows for key in row)
        said: list[Any] = list(answers.texts)
        if messages:
            said = [[{"role": "assistant", "content": text}] for text in answers.texts]
        given: dict[str, Any] = {key: [row.get(key) for row in answers.rows] for key in keys}
        ids = answers.beside.get("completion_ids")
        given.update(answers.beside)
        given.update({} if ids is None else {"completion_ids": [list(each) for each in ids]})
        prompts = [[dict(turn) for turn in prompt] for prompt in answers.prompts]
        given.update(prompts=prompts, completions=said)
        if self._takes is not None:
            given = {key: value for key, value in given.items() if key in self._takes}
        found = self._function(**given)
        return _awaited(found) if inspect.isawaitable(found) else found


_OF_A_TEXT = re.compile(
    r"string ind|'str' object|values to unpack|must be (real number|a mapping), not str"
)
"""What Python says where a text is indexed, asked for a message's field, or taken apart."""


def _took_a_text_for_messages(error: Exception) -> bool:
    return _OF_A_TEXT.search(str(error)) is not None


def _awaited(found: Awaitable[Any]) -> Any:
    """Its result. Clients that a function keeps (`AsyncOpenAI`) belong to the loop of their first
    call, so there is one loop for all of them, in a thread of its own: this one's may be taken.
    """

    async def wait() -> Any:
        try:
            return await found
        except SystemExit as error:
            # It would end the loop, and with it every later wait.
            raise RuntimeError(f"it ends the program ({error})") from error

    return asyncio.run_coroutine_threadsafe(wait(), _loop()).result()


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="rewards", daemon=True).start()
    return loop


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
