"""Runs the trusted tests out of the program's reach, on proxies of its objects.

One judge serves many programs, each over its own channel. What comes over a channel is plain data
of bounded size, or the number of an object that stays with the program.
"""

from __future__ import annotations

import builtins
import random
import socket
from functools import lru_cache
from types import CodeType
from typing import Any

from .candidate import TEXT, describe
from .channel import receive, receive_with, send
from .failing import named
from .stand_in import TESTS, Program, Remote


class Names(dict[str, Any]):
    """The tests' globals: their own names, the builtins, and then the program's."""

    def __init__(self, program: Program) -> None:
        super().__init__(vars(builtins))
        self["__name__"] = TESTS
        self._program = program

    def __missing__(self, name: str) -> Any:
        self._program.objects |= _names_a_class(name)
        return self._program.ask(["name", name])[0]


def _names_a_class(name: str) -> bool:
    return name[:1].isupper()


@lru_cache(maxsize=256)
def compiled(source: str, name: str) -> CodeType:
    """The compiled source. Kept, since the same tests come again for every program they judge."""
    return compile(source, name, "exec", dont_inherit=True)


def judge(
    channel: socket.socket, tests: str, setup: str, entry_point: str, calls: bool
) -> tuple[str, str, int]:
    """Run the tests on one program; returns its label, a detail, and which program was loaded.

    `calls`: the tests define `check(candidate)` and do not call it, as HumanEval's do.
    """
    program = Program(channel)
    names = Names(program)
    program.objects = _names_a_class(entry_point)
    entry = Remote(program, 0, "entry point")
    random.seed(0)
    label, detail = "pass", ""
    try:
        program.awaits = any(word in tests + setup for word in ("await", "asyncio"))
        if setup:
            exec(compiled(setup, "setup.py"), names)
            program.shared = {
                name: value
                for name, value in names.items()
                if isinstance(value, type) and value.__module__ == TESTS
            }
        names["candidate"] = entry
        if entry_point.isidentifier():
            names[entry_point] = entry
        exec(compiled(tests, "tests.py"), names)
        if calls:
            names["check"](entry)
        program.greet()  # tests that never call the program pass only if it loads
    except BaseException as error:  # noqa: BLE001 - whatever tests raise is their verdict
        if program.ended is None:
            label = "fail:tests"
            if program.starved and isinstance(error, MemoryError):
                label = "fail:memory"
            sources = {"tests.py": tests, "setup.py": setup}
            detail = named(error, sources, entry_point) + describe(error)
    return (*(program.ended or (label, detail)), program.chosen)


def main(control: socket.socket, line: socket.socket) -> None:
    """Judge one program after another until the sandbox ends.

    Programs' channels come over `control`, from the zygote, which gets the label alone. Tests come
    over `line`, from the parent, and the detail goes back there: it may quote the tests, and what
    the zygote knows, later programs could read in their memory.
    """
    while True:
        _, [descriptor] = receive_with(control)
        with socket.socket(fileno=descriptor) as channel:
            label, detail, chosen = judge(channel, *receive(line))
        send(line, [detail[:TEXT], chosen])
        send(control, label)
