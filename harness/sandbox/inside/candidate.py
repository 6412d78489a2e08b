"""The untrusted program's process: loads it, and answers the judge in plain data.

The program can read everything in this process, so nothing in it is secret; and what comes from it
is taken as an answer to be tested, never as a verdict.
"""

from __future__ import annotations

import builtins
import enum
import inspect
import json
import operator
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from .channel import MAXIMUM, Lost, frame, receive, send
from .plain import Record, Unsendable, pack, unpack

MODULE = "program"
TEXT = 2000
_loop: Any = None
LOST_OUTPUT = 120
"""The exit status of an interpreter that can't write what it still held."""

OPERATIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "iter": iter,
    "next": next,
    "str": str,
    "bool": bool,
    "hash": hash,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "contains": operator.contains,
    "isinstance": lambda kind, value: isinstance(value, kind),
    "anext": lambda stream: _awaited(anext(stream)),
    "getattr": getattr,
    "setattr": setattr,
    "eq": operator.eq,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "neg": operator.neg,
    "pos": operator.pos,
    "invert": operator.invert,
    "abs": abs,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "round": round,
    "format": format,
    "repr": repr,
    "reversed": reversed,
    "delattr": delattr,
    "enter": lambda value: value.__enter__(),
    "exit": lambda value: value.__exit__(None, None, None),
    "aenter": lambda value: _awaited(value.__aenter__()),
    "aexit": lambda value: _awaited(value.__aexit__(None, None, None)),
    **{name: getattr(operator, name) for name in ("floordiv", "mod", "pow", "matmul")},
    **{name: getattr(operator, name) for name in ("lshift", "rshift", "and_", "or_", "xor")},
    **{f"i{name}": getattr(operator, f"i{name}") for name in ("add", "sub", "mul", "truediv")},
}
OPERATIONS |= {
    f"r{name}": lambda value, other, operate=OPERATIONS[name]: operate(other, value)
    for name in (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
        *("lshift", "rshift", "and_", "or_", "xor"),
    )
}
"""What a judge may ask for on an object that stays in this process, besides a call."""


def load(program: str, setup: str) -> dict[str, Any]:
    """Run `setup` and `program` as one module that is not the main one; returns its names."""
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    namespace = vars(module)
    if setup:
        # The judge runs it as well, on names of its own that the program can't change.
        exec(compile(setup, "setup.py", "exec"), namespace)
    exec(compile(program, "program.py", "exec", dont_inherit=True), namespace)
    return namespace


def find(namespace: dict[str, Any], entry_point: str) -> Any:
    """The object under test; raises NameError or AttributeError where there is none."""
    return eval(entry_point, namespace)


def first_loaded(programs: list[str], setup: str, entry_point: str) -> tuple[int, dict[str, Any]]:
    """The place and the names of the first program that loads and has the entry point.

    Raises what the first of all raised where none does. One that leaves, or takes more memory than
    there is, is the last that is tried.
    """
    first: Exception | None = None
    for number, program in enumerate(programs):
        try:
            namespace = load(program, setup)
            find(namespace, entry_point)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps it from loading
            first = first or error
        else:
            return number, namespace
    assert first is not None
    raise first


def failure(error: BaseException, stage: str) -> tuple[str, str]:
    """The label and the one-line detail of a program that raised at `stage`."""
    if isinstance(error, MemoryError):
        return "fail:memory", "MemoryError"
    if isinstance(error, SystemExit):
        return "fail:exited", f"sys.exit({error.code!r})"[:200]
    return stage, describe(error)


def describe(error: BaseException) -> str:
    """`ValueError: what it says`, whatever its own `__str__` does."""
    try:
        text = str(error)[:TEXT]
    except Exception:  # noqa: BLE001 - its __str__ is the program's code
        text = "(its message can't be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def serve(channel: socket.socket, programs: list[str], setup: str, entry_point: str) -> None:
    """Load the first program that loads, report it, and answer until the judge hangs up."""
    try:
        chosen, namespace = first_loaded(programs, setup, entry_point)
        entry = find(namespace, entry_point)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is an answer
        send(channel, ["failed", *failure(error, "fail:load")])
        return
    send(channel, ["ready", chosen] if chosen else ["ready"])
    objects = [entry]
    try:
        while True:
            request = receive(channel, hook=lambda tagged: _received(tagged, objects, namespace))
            channel.sendall(frame(_answer(request, namespace, objects)))
    except Lost:
        return


def _received(tagged: dict[str, Any], objects: list[Any], namespace: dict[str, Any]) -> Any:
    if "h" not in tagged:
        value = unpack(tagged)
        return _named(value, namespace) if type(value) is Record else value
    if type(tagged["h"]) is int:
        return objects[tagged["h"]]
    kind, member = tagged["h"]
    return namespace[kind][member]


def _named(record: Record, namespace: dict[str, Any]) -> Any:
    """The program's own named tuple, where it has one of that name."""
    kind = namespace.get(record._kind)
    return kind(*record) if isinstance(kind, type) and issubclass(kind, tuple) else tuple(record)


def _answer(request: list[Any], namespace: dict[str, Any], objects: list[Any]) -> str:
    """One reply as JSON: ok, raise, missing, exception, exited or unsendable."""
    body: str
    try:
        kind, *rest = request
        if kind == "name":
            reply = _name(rest[0], namespace, objects)
        elif kind == "call":
            reply = _call(objects, *rest)
        else:
            reply = _result(OPERATIONS[rest[0]](*rest[1]), objects)
        body = json.dumps(reply)
        if len(body) > MAXIMUM:
            body = json.dumps(["unsendable", f"a result of {len(body)} bytes"])
    except SystemExit as error:
        body = json.dumps(["exited", f"sys.exit({error.code!r})"[:200]])
    except BaseException as error:  # noqa: BLE001 - every kind of raise is an answer
        said = ["raise", _lineage(type(error)), describe(error)]
        body = json.dumps([*said, *_made_of(error)])
        if len(body) > MAXIMUM:
            body = json.dumps(said)
    return body


def _made_of(error: BaseException) -> list[Any]:
    """An exception's arguments and attributes, as far as they are plain data."""
    try:
        given = error.args
        if isinstance(error, OSError) and error.filename is not None:
            given = (*given[:2], error.filename)  # which is none of the arguments that it keeps
        args = [pack(value) for value in given]
    except Exception:  # noqa: BLE001 - no plain data, or a property of the program's
        return []
    named = []
    for name, value in list(getattr(error, "__dict__", {}).items()):
        if type(name) is str and name.isidentifier() and not name.startswith("__"):
            try:
                named.append([name, pack(value)])
            except Unsendable:
                continue
    return [args, named]


def _name(name: str, namespace: dict[str, Any], objects: list[Any]) -> list[Any]:
    if name not in namespace:
        return ["missing"]
    value = namespace[name]
    if isinstance(value, type) and issubclass(value, Exception):
        return ["exception", _lineage(value)]
    return _result(value, objects)


def _call(
    objects: list[Any], target: Any, args: list[Any], named: dict[str, Any], keep: list[Any]
) -> list[Any]:
    """Call, and send back those of the arguments `keep` that the call changed.

    They are those that the tests may look at after the call (see `judge.Remote.__call__`).
    """
    everything: dict[Any, Any] = {**dict(enumerate(args)), **named}
    stay = _keeper(objects)
    before = [pack(everything[key], stay) for key in keep]
    value = target(*args, **named)
    coroutine = isinstance(value, types.CoroutineType)
    reply = _result(_awaited(value) if coroutine else value, objects)
    after = [(key, pack(everything[key], stay)) for key in keep]
    changed = [[key, now] for (key, now), was in zip(after, before, strict=True) if now != was]
    if coroutine and reply[0] == "ok":
        return ["awaited", reply[1], changed]
    return [*reply, changed] if changed else reply


def _awaited(value: Any) -> Any:
    """What a coroutine gives, on one loop for all that this program starts."""
    import asyncio

    global _loop
    _loop = _loop or asyncio.new_event_loop()
    return _loop.run_until_complete(value)


def _result(value: Any, objects: list[Any]) -> list[Any]:
    try:
        return ["ok", pack(value, _keeper(objects))]
    except Unsendable as why:
        return ["unsendable", str(why)]


def _keeper(objects: list[Any]) -> Callable[[Any], Any]:
    """What `pack` does with what is not plain data: it stays here, and its number is sent."""

    def keep(value: Any) -> Any:
        number = next((n for n, known in enumerate(objects) if known is value), len(objects))
        if number == len(objects):
            objects.append(value)
        member = [value.name] if isinstance(value, enum.Enum) else []
        return {"h": [number, type(value).__name__[:100], *member]}

    return keep


def _lineage(raised: type[BaseException]) -> list[str]:
    """Names of an exception's classes, its own first, up to its nearest builtin one."""
    names: list[str] = []
    for kind in raised.__mro__:
        names.append(str(kind.__name__))
        if getattr(builtins, kind.__name__, None) is kind:
            break
    return names


def together(
    programs: list[str], setup: str, entry_point: str, tests: str, calls: bool
) -> list[Any]:
    """Run program and tests in one process, the `cooperative` form.

    Returns [label, detail, the number of the program that was loaded].
    """
    try:
        chosen, namespace = first_loaded(programs, setup, entry_point)
        entry = find(namespace, entry_point)
        if inspect.iscoroutinefunction(entry) and "await" not in tests and "asyncio" not in tests:
            entry = _waiting(entry)
            namespace.update({entry_point: entry} if entry_point.isidentifier() else {})
        namespace["candidate"] = entry
    except BaseException as error:  # noqa: BLE001
        return [*failure(error, "fail:load"), 0]
    try:
        exec(compile(tests, "tests.py", "exec", dont_inherit=True), namespace)
        if calls:
            namespace["check"](namespace["candidate"])
    except BaseException as error:  # noqa: BLE001
        return [*failure(error, "fail:tests"), chosen]
    return ["pass", "", chosen]


def _waiting(entry: Callable[..., Any]) -> Callable[..., Any]:
    """An async function for tests that do not await it."""
    return lambda *args, **named: _awaited(entry(*args, **named))


def as_main(program: str) -> None:
    """Run a whole program as a script is run, and end this process with its exit status."""
    import os
    import threading

    status = _run_main(program)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for its threads, as at a true exit
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # full, or closed by the program
        status = status or LOST_OUTPUT
    os._exit(status)


def _run_main(program: str) -> int:
    import traceback

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(program, "program.py", "exec", dont_inherit=True), vars(module))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - what the interpreter does
        return 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0
