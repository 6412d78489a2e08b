"""The program as its judge sees it: a channel, and stand-ins for the objects behind it."""

from __future__ import annotations

import enum
import json
import socket
import sys
from collections.abc import Iterable
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from .channel import MAXIMUM, Garbled, Lost, frame, receive
from .plain import (
    MUTABLE,
    Exactly,
    TooDeep,
    Unsendable,
    is_plain,
    pack,
    refuse,
    restore,
    unpack,
)
from .raised import Raised

BLAMED = frozenset({"fail:load", "fail:memory", "fail:exited"})
"""The labels that a program's own report of a failed start is believed for: they harm only it."""

TESTS = "tests"
"""The module that classes of the tests and of the setup belong to."""

ITERATORS: dict[str, type] = {
    kind.__name__: kind
    for kind in (GeneratorType, AsyncGeneratorType, map, filter, zip, enumerate, reversed)
}
"""What an object of the program's may be to `isinstance`, by the name of its type."""

MOST_PROGRAMS = 16
"""How many programs an answer may be tried as: what a program says of it is believed below that."""

LOST = "lost"
UNSPLITTABLE = "unsplittable"


def is_choice(value: Any) -> bool:
    """Whether a program's word for which of them it is can be one."""
    return type(value) is int and 0 <= value < MOST_PROGRAMS


def _counts(*args: Any) -> list[int]:
    return [sys.getrefcount(value) for value in args]


UNSEEN = _counts([])[0]
"""The reference count of an argument that only the call holds; it differs between interpreters."""


class Ended(BaseException):
    """These tests can't go on; the reason is in `Program.ended`. Not caught as an Exception."""


class Program:
    """The program as its judge sees it: a channel, and how it ended if it did.

    `objects`: the tests name a class of the program's, so they test operators on its objects.
    Otherwise such operators are refused: in `result == expected` the program's `__eq__` would see
    what is expected, and could answer True.
    `awaits`: the tests await what coroutines give.
    `shared`: the classes of the setup, which both sides have.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.ready = False
        self.chosen = 0
        self.ended: tuple[str, str] | None = None
        self.starved = False
        self.objects = False
        self.awaits = False
        self.raised = Raised()
        self.shared: dict[str, type] = {}

    def end(self, label: str, detail: str) -> Ended:
        """Keep the first reason, so that tests which catch everything can't hide it."""
        self.ended = self.ended or (label, detail)
        return Ended(detail)

    def greet(self) -> None:
        """Wait until the program is loaded."""
        if self.ended:
            raise Ended
        if not self.ready:
            hello = self._receive()
            match hello:
                case ["ready"]:
                    pass
                case ["ready", chosen] if is_choice(chosen):
                    self.chosen = chosen
                case ["failed", str(label), str(detail)] if label in BLAMED:
                    raise self.end(label, detail)
                case _:
                    raise self.end("fail:protocol", "no such greeting")
            self.ready = True

    def ask(self, request: list[Any]) -> tuple[Any, list[Any]]:
        """Send a request; returns the answer's value and the arguments that the call changed."""
        self.greet()
        try:
            self.channel.sendall(frame(json.dumps(request)))
        except OSError:
            raise self.end(LOST, "") from None
        return self._read(self._receive())

    def _receive(self) -> Any:
        try:
            return receive(self.channel, MAXIMUM, self._unpack)
        except Lost:
            raise self.end(LOST, "") from None
        except Garbled as error:
            raise self.end("fail:protocol", str(error)) from None
        except MemoryError:
            raise self.end("fail:output", "an answer too large to read") from None

    def _read(self, reply: Any) -> tuple[Any, list[Any]]:
        match reply:
            case ["ok", value]:
                return value, []
            case ["ok", value, list(changed)]:
                return value, changed
            case ["awaited", value, list(changed)]:
                return (_given(value) if self.awaits else value), changed
            case ["raise", [*_, str()] as lineage, str(text)]:
                self.starved = lineage[-1] == "MemoryError"
                raise self.raised.plain(lineage, text)
            case ["raise", [*_, str()] as lineage, str(text), list(args), list(named)]:
                self.starved = lineage[-1] == "MemoryError"
                raise self._remade(lineage, text, args, named)
            case ["missing"]:
                raise KeyError
            case ["exited", str(detail)]:
                raise self.end("fail:exited", detail)
            case ["unsendable", str(detail)]:
                raise self.end("fail:output", detail)
            case ["exception", [*_, str()] as lineage]:
                return self.raised.kind(lineage), []
        raise self.end("fail:protocol", "no such answer")

    def _remade(self, lineage: list[Any], text: str, args: Any, named: Any) -> Exception:
        try:
            return self.raised.error(lineage, text, args, named)
        except (TypeError, ValueError):
            raise self.end("fail:protocol", "no such attributes") from None

    def _unpack(self, tagged: dict[str, Any]) -> Any:
        if "h" not in tagged:
            return unpack(tagged)
        number, kind, *member = tagged["h"]
        if type(number) is not int or type(kind) is not str:
            raise ValueError
        shared = self.shared.get(kind)
        if member and isinstance(shared, enum.EnumMeta):
            return shared[member[0]]
        return Remote(self, number, kind)


class Remote:
    """A stand-in for an object of the program's: a function, a class, an instance, a generator.

    It never equals plain data: an object whose `__eq__` always answers True would pass any test.
    Whether two such objects are equal is the program's answer, and asked for only where the tests
    name a class of the program's. An object of the setup's or the tests' own class compares itself
    with it, on this side. With one of a library's that is no plain data nobody here could: then the
    tests can't be split.
    """

    __slots__ = ("_kind", "_number", "_program")

    def __init__(self, program: Program, number: int, kind: str) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_kind", kind)

    def __call__(self, *args: Any, **named: Any) -> Any:
        program = self._program
        if _has_one_twice([*args, *named.values()]):
            raise program.end(UNSPLITTABLE, "the tests pass one object twice")
        # An argument may be changed by the call, and tests may look at it afterwards. A literal in
        # the call has no other reference, so no test can see it, and it need not come back.
        held = [sys.getrefcount(value) > UNSEEN for value in args]
        keep: list[Any] = [
            index
            for index, value in enumerate(args)
            if type(value) in MUTABLE and (held[index] or _nests(value))
        ]
        keep += [key for key, value in named.items() if type(value) in MUTABLE]
        value, changed = program.ask(
            [
                "call",
                {"h": self._number},
                [_sent(program, value) for value in args],
                _sent(program, named),
                keep,
            ]
        )
        for key, now in changed:
            old = args[key] if type(key) is int else named[key]
            if key not in keep or type(old) is not type(now):
                raise program.end("fail:protocol", "an argument that changed its type")
            restore(old, now)
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name != "__name__":
            raise AttributeError(name)
        return self._do("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("setattr", name, value)

    def _do(self, operation: str, *operands: Any) -> Any:
        program = self._program
        packed = [{"h": self._number}, *(_sent(program, operand) for operand in operands)]
        return program.ask(["do", operation, packed])[0]

    def __eq__(self, other: object) -> Any:
        if type(other) is not Remote:
            return self._equals(other)
        if self._number == other._number:
            return True
        return self._program.objects and self._do("eq", other) is True

    def _equals(self, other: object) -> Any:
        """Not plain data's equal, and no object's of the tests' own but by its own comparison."""
        if is_plain(other):
            return False
        kind = type(other)
        if kind.__module__ != TESTS:  # what an honest program gives here, nobody else can compare
            raise self._program.end(UNSPLITTABLE, f"the tests compare with a {kind.__name__}")
        return NotImplemented

    @property  # type: ignore[misc]  # a stand-in's class is what isinstance asks for
    def __class__(self) -> Any:
        """A class of the setup, which both sides have, so that its comparison works on fields."""
        return self._program.shared.get(self._kind) or ITERATORS.get(self._kind, Remote)

    def __instancecheck__(self, value: object) -> bool:
        if not self._program.objects:
            raise TypeError(f"{self._described} is not a class of the judge's")
        return self._do("isinstance", value) is True

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return self._do("anext")

    def __hash__(self) -> int:
        return hash(self._do("hash"))

    def __bool__(self) -> bool:
        return self._do("bool") is True

    def __str__(self) -> str:
        text = self._do("str")
        return text if type(text) is str else ""

    def __repr__(self) -> str:
        if self._program.ended or not self._program.ready:
            return self._described
        text = self._do("repr")
        return text if type(text) is str else ""

    def __format__(self, how: str) -> str:
        text = self._do("format", how)
        return text if type(text) is str else ""

    @property
    def _described(self) -> str:
        return f"<the program's {self._kind}>"

    def __delattr__(self, name: str) -> None:
        self._do("delattr", name)

    def __enter__(self) -> Any:
        return self._do("enter")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not None and self._program.ended is None:
            # What was raised on this side can't be shown to the program.
            raise self._program.end(UNSPLITTABLE, "the tests raise within a context of the program")
        return self._do("exit") is True

    async def __aenter__(self) -> Any:
        return self._do("aenter")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not None and self._program.ended is None:
            raise self._program.end(UNSPLITTABLE, "the tests raise within a context of the program")
        return self._do("aexit") is True

    def __reduce_ex__(self, _: object) -> Any:
        raise self._program.end(UNSPLITTABLE, "the tests copy an object of the program's")

    def __len__(self) -> int:
        length = self._do("len")
        return length if type(length) is int else -1

    def __iter__(self) -> Any:
        return self._do("iter")


def _asking(name: str) -> Any:
    return lambda self, *operands: self._do(name, *operands)


def _believing(name: str) -> Any:
    def operate(self: Remote, other: Any) -> Any:
        if not self._program.objects:
            raise TypeError(f"{self._described} is not plain data, and can't be used with {name}")
        return self._do(name, other)

    return operate


_BINARY = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("lshift", "rshift", "and_", "or_", "xor"),
)
_UNARY = ("neg", "pos", "invert", "abs", "int", "float", "complex", "index", "round", "reversed")
for _name in ("next", "getitem", "setitem", "delitem", *_UNARY):
    setattr(Remote, f"__{_name}__", _asking(_name))
for _name in ("contains", "lt", "le", "gt", "ge", "iadd", "isub", "imul", "itruediv"):
    setattr(Remote, f"__{_name}__", _believing(_name))
for _name in _BINARY:
    _plain = _name.rstrip("_")
    setattr(Remote, f"__{_plain}__", _believing(_name))
    setattr(Remote, f"__r{_plain}__", _believing(f"r{_name}"))


def _nests(value: Any) -> bool:
    return any(type(item) in MUTABLE for item in _held(value))


def _held(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return dict.values(value)
    return value if type(value) is list else ()


def _has_one_twice(given: list[Any]) -> bool:
    """Whether a call is given one object that can change in two places, as `[[0] * 3] * 3` is."""
    outer = [value for value in given if type(value) in MUTABLE]
    inner = [item for value in outer for item in _held(value) if type(item) in MUTABLE]
    return len({id(value) for value in (*outer, *inner)}) < len(outer) + len(inner)


def _sent(program: Program, value: Any) -> Any:
    try:
        return pack(value, Exactly(lambda kept: _handle(program, kept)))
    except TooDeep as why:  # tests don't write such literals, and no honest program sends them
        raise program.end("fail:protocol", str(why)) from None
    except Unsendable as why:
        raise program.end(UNSPLITTABLE, f"the tests pass {why}") from None


def _handle(program: Program, value: Any) -> Any:
    if type(value) is Remote:
        return {"h": value._number}
    kind = type(value).__name__
    if isinstance(value, enum.Enum) and program.shared.get(kind) is type(value):
        return {"h": [kind, value.name]}
    return refuse(value)


async def _given(value: Any) -> Any:
    """For tests that await: what the program's coroutine gave already."""
    return value
