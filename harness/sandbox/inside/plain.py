"""Plain data between processes: exact builtin types, bounded in depth and size.

Scalars, strings and lists are their own JSON; everything else is an object with one key that
names its type. A subclass is sent as its base, so that its `__eq__` never reaches the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEPTH = 200
NATIVE_BITS = 1024
"""Integers longer than this travel in hexadecimal, which is linear to read."""


class Unsendable(Exception):
    """A value that is not plain data."""


class TooDeep(Unsendable):
    """Plain data nested more than `DEPTH` levels."""


def _integer(value: int) -> Any:
    return value if value.bit_length() <= NATIVE_BITS else {"i": hex(value)}


Other = Callable[[Any], Any]
"""What becomes of a value that is not plain data: a tagged object, or Unsendable is raised."""

Packer = Callable[[Any, Other, int], Any]


def refuse(value: Any) -> Any:
    """Raise Unsendable: the `Other` for where only plain data may be sent."""
    raise Unsendable(f"a value of type {type(value).__name__[:100]}")


def _items(name: str, kind: type) -> Packer:
    # The base's own `__iter__`: a subclass's is code of the program, and could yield anything.
    iterate = kind.__iter__  # type: ignore[attr-defined]  # each kind here is iterable
    return lambda value, other, depth: {name: [pack(item, other, depth) for item in iterate(value)]}


def _list(value: list[Any], other: Other, depth: int) -> Any:
    return [pack(item, other, depth) for item in list.__iter__(value)]


def _dict(value: dict[Any, Any], other: Other, depth: int) -> Any:
    return {
        "d": [
            [pack(key, other, depth), pack(item, other, depth)] for key, item in dict.items(value)
        ]
    }


def _range(value: range) -> Any:
    return {"r": [_integer(bound) for bound in (value.start, value.stop, value.step)]}


_PACKERS: dict[type, Packer] = {
    type(None): lambda value, _other, _depth: value,
    bool: lambda value, _other, _depth: value,
    int: lambda value, _other, _depth: _integer(int.__int__(value)),
    float: lambda value, _other, _depth: float.__float__(value),
    str: lambda value, _other, _depth: str.__str__(value),
    list: _list,
    dict: _dict,
    tuple: _items("t", tuple),
    set: _items("s", set),
    frozenset: _items("f", frozenset),
    bytes: lambda value, _other, _depth: {"b": bytes.hex(value)},
    bytearray: lambda value, _other, _depth: {"a": bytearray.hex(value)},
    complex: lambda value, _other, _depth: {"c": [value.real, value.imag]},
    range: lambda value, _other, _depth: _range(value),
}
_SAME = frozenset({type(None), bool, float, str})
_BASES = tuple(kind for kind in _PACKERS if kind is not type(None))


def pack(value: Any, other: Other = refuse, depth: int = 0) -> Any:
    """`value` as JSON can carry it. Raises Unsendable; runs no method of a subclass."""
    kind = type(value)
    if kind in _SAME:
        return value
    if depth > DEPTH:
        raise TooDeep(f"nested more than {DEPTH} deep")
    packer = _PACKERS.get(kind)
    if packer is None:
        packer = next((_PACKERS[base] for base in _BASES if issubclass(kind, base)), None)
        if packer is None:
            return other(value)
    return packer(value, other, depth + 1)


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
    """Make the container `old` equal to `new` in place, and containers within it where they match.

    So the tests see a change that the program made to an argument, in the very object they hold.
    """
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
