"""Plain data across the wall: exact builtin types only, with a bound on depth and size.

Scalars, strings and lists are their own JSON; everything else is an object with one key that
names its type. A subclass is sent as its base, so that an `__eq__` of its own dies at the wall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEPTH = 200
NATIVE_BITS = 1024
"""Integers longer than this travel in hexadecimal, which is linear to read."""


class Unsendable(Exception):
    """A value that is no plain data, or nested too deeply."""


def _integer(value: int) -> Any:
    value = int(value)
    return value if value.bit_length() <= NATIVE_BITS else {"i": hex(value)}


def _items(name: str, kind: type) -> Callable[[Any, int], Any]:
    iterate = kind.__iter__  # type: ignore[attr-defined]  # each kind here is iterable
    return lambda value, depth: {name: [pack(item, depth) for item in iterate(value)]}


def _list(value: list[Any], depth: int) -> Any:
    return [pack(item, depth) for item in list.__iter__(value)]


def _dict(value: dict[Any, Any], depth: int) -> Any:
    return {"d": [[pack(key, depth), pack(item, depth)] for key, item in dict.items(value)]}


_PACKERS: dict[type, Callable[[Any, int], Any]] = {
    type(None): lambda value, _: value,
    bool: lambda value, _: value,
    int: lambda value, _: _integer(int.__int__(value)),
    float: lambda value, _: float.__float__(value),
    str: lambda value, _: str.__str__(value),
    list: _list,
    dict: _dict,
    tuple: _items("t", tuple),
    set: _items("s", set),
    frozenset: _items("f", frozenset),
    bytes: lambda value, _: {"b": bytes.hex(value)},
    bytearray: lambda value, _: {"a": bytearray.hex(value)},
    complex: lambda value, _: {"c": [value.real, value.imag]},
    range: lambda value, _: {"r": [_integer(n) for n in (value.start, value.stop, value.step)]},
}
_SAME = frozenset({type(None), bool, float, str})
_BASES = tuple(kind for kind in _PACKERS if kind is not type(None))


def pack(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can carry it. Raises Unsendable; never runs a method of a subclass."""
    kind = type(value)
    if kind in _SAME:
        return value
    if depth > DEPTH:
        raise Unsendable(f"nested more than {DEPTH} deep")
    packer = _PACKERS.get(kind)
    if packer is None:
        packer = next((_PACKERS[base] for base in _BASES if issubclass(kind, base)), None)
        if packer is None:
            raise Unsendable(f"a value of type {kind.__name__}")
    return packer(value, depth + 1)


def unpack(tagged: dict[str, Any]) -> Any:
    """The value of one tagged object; the hook of `json.loads`. Raises ValueError for nonsense."""
    if len(tagged) != 1:
        raise ValueError
    [(name, body)] = tagged.items()
    return _UNPACKERS[name](body)


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda body: int(body, 16),
    "d": dict,
    "t": tuple,
    "s": set,
    "f": frozenset,
    "b": bytes.fromhex,
    "a": bytearray.fromhex,
    "c": lambda body: complex(*body),
    "r": lambda body: range(*body),
}


def restore(old: Any, new: Any) -> None:
    """Make the container `old` equal to `new` in place, containers within it too where they can."""
    if type(old) is list:
        for index, (was, now) in enumerate(zip(old, new, strict=False)):
            new[index] = _restored(was, now)
        old[:] = new
    elif type(old) is dict:
        fresh = {key: _restored(old.get(key), item) for key, item in new.items()}
        old.clear()
        old.update(fresh)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new


def _restored(was: Any, now: Any) -> Any:
    if type(was) in (list, dict, set, bytearray) and type(was) is type(now):
        restore(was, now)
        return was
    return now
