"""Files damaged at random, for tests of whatever reads what users bring."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

from harness.core.errors import UserError

ODD: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e400, float("nan"), "", "x", "\ud800", "C", "1e999", "NaN"),
    *([], {}, [[]], [None], {"value": 1}, {"a": {"b": []}}, "9" * 400, 10**400, "../x", "{{ x }}"),
]


def damage(value: Any, chance: random.Random) -> Any:
    """The same JSON with one node of it changed, dropped or doubled."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        turn = chance.random()
        if turn < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if turn < 0.2:
            return {**value, str(chance.choice(ODD))[:20]: value[key]}
        return {**value, key: damage(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            return [*value, value[at]]
        return [*value[:at], damage(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD)


def spoil(data: bytes, chance: random.Random) -> bytes:
    """The same bytes with a few of them changed, cut or doubled."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(max(len(found), 1))
        turn = chance.random()
        if turn < 0.5:
            found[at : at + 1] = bytes([chance.choice(b"\0\xff\"',;{}[]:\n\t -9aN\x80")])
        elif turn < 0.75:
            del found[at : at + chance.randint(1, 30)]
        else:
            found[at:at] = found[at : at + chance.randint(1, 30)]
    return bytes(found)


def allowed(read: Callable[[], object]) -> None:
    """Call it; any error but a UserError is the test's."""
    with contextlib.suppress(UserError):
        read()
