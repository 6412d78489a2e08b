"""Plain data between processes: exact builtin types, bounded in depth and size.

Scalars, strings and lists are their own JSON; everything else is an object with one key that
names its type. A subclass is sent as its base, so that its `__eq__` never reaches the judge; of a
named tuple its fields' names go along.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
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


class Exactly:
    """An `Other` that is asked for subclasses as well: none is sent as its base unnoticed."""

    def __init__(self, other: Other) -> None:
        self.other = other

    def __call__(self, value: Any) -> Any:
        return self.other(value)


Packer = Callable[[Any, Other, int], Any]


def refuse(value: Any) -> Any:
    """Raise Unsendable: the `Other` for where only plain data may be sent."""
    raise Unsendable(f"a value of type {type(value).__name__[:100]}")


class Record(tuple[Any, ...]):
    """A named tuple on the other side of the wall: a tuple whose items have names, too."""

    _kind: str
    _fields: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, fields: list[str], items: list[Any]) -> Record:
        if any(type(name) is not str for name in (kind, *fields)):
            raise ValueError
        record = cls(items)
        vars(record).update(zip(fields, record, strict=True))
        record._kind, record._fields = kind, tuple(fields)
        return record

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=False))


FACTORIES: dict[str, Callable[[], Any]] = {
    kind.__name__: kind for kind in (int, float, str, bool, list, dict, set, tuple)
}
"""What a defaultdict may make across the wall; one with another factory arrives without it."""


def _items(name: str, kind: type) -> Packer:
    # The base's own `__iter__`: a subclass's is code of the program, and could yield anything.
    iterate = kind.__iter__  # type: ignore[attr-defined]  # each kind here is iterable
    return lambda value, other, depth: {name: [pack(item, other, depth) for item in iterate(value)]}


def _list(value: list[Any], other: Other, depth: int) -> Any:
    return [pack(item, other, depth) for item in list.__iter__(value)]


def _pairs(value: dict[Any, Any], other: Other, depth: int) -> list[list[Any]]:
    return [[pack(key, other, depth), pack(item, other, depth)] for key, item in dict.items(value)]


def _ordered(value: OrderedDict[Any, Any], other: Other, depth: int) -> Any:
    # `dict.items` would tell the order of insertion, which `move_to_end` leaves as it was.
    items = OrderedDict.items(value)
    return {"z": [[pack(key, other, depth), pack(item, other, depth)] for key, item in items]}


def _tuple(value: tuple[Any, ...], other: Other, depth: int) -> Any:
    items = [pack(item, other, depth) for item in tuple.__iter__(value)]
    fields = () if type(value) is tuple else getattr(value, "_fields", ())
    if type(fields) is not tuple or not fields or any(type(name) is not str for name in fields):
        return {"t": items}
    kind = value._kind if type(value) is Record else type(value).__name__
    return {"n": [kind, list(fields), items]}


def _defaultdict(value: defaultdict[Any, Any], other: Other, depth: int) -> Any:
    factory = value.default_factory
    name = next((name for name, kind in FACTORIES.items() if kind is factory), None)
    return {"y": [name, _pairs(value, other, depth)]}


def _deque(value: deque[Any], other: Other, depth: int) -> Any:
    items = [pack(item, other, depth) for item in deque.__iter__(value)]
    return {"q": [items, value.maxlen]}


def _offset(value: dt.datetime | dt.time | dt.timezone) -> Any:
    """Seconds east of UTC: two moments are equal by their instants, whatever their zones' names."""
    offset = value.utcoffset(None) if isinstance(value, dt.timezone) else value.utcoffset()
    return None if offset is None else [offset.days, offset.seconds, offset.microseconds]


def _clock(value: dt.datetime | dt.time) -> list[int]:
    return [value.hour, value.minute, value.second, value.microsecond]


def _datetime(value: dt.datetime) -> Any:
    return {"w": [[*_day(value), *_clock(value)], value.fold, _offset(value)]}


def _day(value: dt.date) -> list[int]:
    return [value.year, value.month, value.day]


def _fraction(value: Fraction) -> Any:
    return {"o": [_integer(value.numerator), _integer(value.denominator)]}


def _range(value: range) -> Any:
    return {"r": [_integer(bound) for bound in (value.start, value.stop, value.step)]}


_PACKERS: dict[type, Packer] = {
    type(None): lambda value, _other, _depth: value,
    bool: lambda value, _other, _depth: value,
    int: lambda value, _other, _depth: _integer(int.__int__(value)),
    float: lambda value, _other, _depth: float.__float__(value),
    str: lambda value, _other, _depth: str.__str__(value),
    list: _list,
    Counter: lambda value, other, depth: {"u": _pairs(value, other, depth)},
    OrderedDict: _ordered,
    defaultdict: _defaultdict,
    dict: lambda value, other, depth: {"d": _pairs(value, other, depth)},
    tuple: _tuple,
    Record: _tuple,
    set: _items("s", set),
    frozenset: _items("f", frozenset),
    bytes: lambda value, _other, _depth: {"b": bytes.hex(value)},
    bytearray: lambda value, _other, _depth: {"a": bytearray.hex(value)},
    complex: lambda value, _other, _depth: {"c": [value.real, value.imag]},
    range: lambda value, _other, _depth: _range(value),
    Decimal: lambda value, _other, _depth: {"m": Decimal.__str__(value)},
    Fraction: lambda value, _other, _depth: _fraction(value),
    dt.datetime: lambda value, _other, _depth: _datetime(value),
    dt.date: lambda value, _other, _depth: {"l": _day(value)},
    dt.time: lambda value, _other, _depth: {"k": [_clock(value), value.fold, _offset(value)]},
    dt.timedelta: lambda value, _other, _depth: {
        "e": [value.days, value.seconds, value.microseconds]
    },
    dt.timezone: lambda value, _other, _depth: {"x": _offset(value)},
    deque: _deque,
    type({}.keys()): lambda value, other, depth: {"v": ["keys", _views(value, other, depth)]},
    type({}.values()): lambda value, other, depth: {"v": ["values", _views(value, other, depth)]},
    type({}.items()): lambda value, other, depth: {"v": ["items", _views(value, other, depth)]},
}


def _views(value: Any, other: Other, depth: int) -> Any:
    return [pack(item, other, depth) for item in list(value)]


_SAME = frozenset({type(None), bool, float, str})
_BASES = tuple(kind for kind in _PACKERS if kind is not type(None))


def is_plain(value: Any) -> bool:
    """Whether a value is sent as it is, or as its base."""
    return value is None or isinstance(value, _BASES)


def pack(value: Any, other: Other = refuse, depth: int = 0) -> Any:
    """`value` as JSON can carry it. Raises Unsendable; no subclass compares or prints itself."""
    kind = type(value)
    if kind in _SAME:
        return value
    if depth > DEPTH:
        raise TooDeep(f"nested more than {DEPTH} deep")
    packer = _PACKERS.get(kind)
    if packer is None:
        if not isinstance(other, Exactly):
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


def _whole(numbers: Any) -> list[int]:
    """The constructors of dates take the bytes of a pickle as well: only integers may come."""
    if type(numbers) is not list or any(type(number) is not int for number in numbers):
        raise ValueError
    return numbers


def _zone(offset: Any) -> dt.timezone | None:
    return None if offset is None else dt.timezone(dt.timedelta(*_whole(offset)))


def _moment(kind: Any, body: Any) -> Any:
    numbers, fold, offset = body
    return kind(*_whole(numbers), tzinfo=_zone(offset), fold=_whole([fold])[0])


def _decimal(text: Any) -> Decimal:
    if type(text) is not str:
        raise ValueError
    return Decimal(text)


def _counter(pairs: Any) -> Counter[Any]:
    counts: Counter[Any] = Counter()
    dict.update(counts, dict(pairs))
    return counts


def _view(body: Any) -> Any:
    name, items = body
    if name == "keys":
        return dict.fromkeys(items).keys()
    if name == "items":
        return dict(items).items()
    return dict(enumerate(items)).values()


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
    "n": lambda body: Record.of(*body),
    "u": _counter,
    "z": OrderedDict,
    "y": lambda body: defaultdict(FACTORIES.get(body[0]), body[1]),
    "q": lambda body: deque(*body),
    "m": _decimal,
    "o": lambda body: Fraction(*_whole(body)),
    "w": lambda body: _moment(dt.datetime, body),
    "k": lambda body: _moment(dt.time, body),
    "l": lambda body: dt.date(*_whole(body)),
    "e": lambda body: dt.timedelta(*_whole(body)),
    "x": _zone,
    "v": _view,
}


def restore(old: Any, new: Any) -> None:
    """Make the container `old` equal to `new` in place, and containers within it where they match.

    So the tests see a change that the program made to an argument, in the very object they hold.
    """
    if type(old) is list:
        for index, (was, now) in enumerate(zip(old, new, strict=False)):
            new[index] = _restored(was, now)
        old[:] = new
    elif isinstance(old, dict):
        fresh = {key: _restored(old.get(key), item) for key, item in new.items()}
        old.clear()
        old.update(fresh)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new
    elif type(old) is deque:
        old.clear()
        old.extend(new)


MUTABLE = (list, dict, set, bytearray, deque, Counter, OrderedDict, defaultdict)


def _restored(was: Any, now: Any) -> Any:
    if type(was) in MUTABLE and type(was) is type(now):
        restore(was, now)
        return was
    return now
