"""Which parts of two answers differ: words, characters in Chinese, keys in JSON objects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

PARTS = 2_000
"""Words of one answer that are compared; longer ones are compared line by line."""

Part = tuple[str, bool]
"""A piece of a text, and whether the other side has another there."""

_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|.", re.DOTALL)


def diff(ours: str, theirs: str) -> tuple[list[Part], list[Part]]:
    """Both texts in pieces, joined again they are what they were.

    Two JSON objects are compared key by key, so a key that moved has not changed.
    """
    if ours == theirs:
        return [(ours, False)], [(theirs, False)]
    left, right = _object(ours), _object(theirs)
    if left is not None and right is not None:
        return _pairs(ours, left, right), _pairs(theirs, right, left)
    a, b = _WORDS.findall(ours), _WORDS.findall(theirs)
    if max(len(a), len(b)) > PARTS:
        a, b = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    if max(len(a), len(b)) > PARTS:
        return [(ours, True)], [(theirs, True)]
    same = SequenceMatcher(None, a, b).get_matching_blocks()
    return (
        _marked(a, [(block.a, block.size) for block in same]),
        _marked(b, [(block.b, block.size) for block in same]),
    )


def _marked(parts: Sequence[str], same: Sequence[tuple[int, int]]) -> list[Part]:
    found: list[Part] = []
    at = 0
    for start, size in same:
        if start > at:
            found.append(("".join(parts[at:start]), True))
        if size:
            found.append(("".join(parts[start : start + size]), False))
        at = start + size
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _pairs(text: str, own: dict[str, Any], other: dict[str, Any]) -> list[Part]:
    """The text as it was written, the pairs of the object marked where the other has another."""
    decoder, at, found = (
        json.JSONDecoder(),
        text.index("{") + 1,
        [(text[: text.index("{") + 1], False)],
    )
    for _ in own:
        start = at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        key, end = decoder.raw_decode(text, start)
        value_at = end + len(text[end:]) - len(text[end:].lstrip(" \t\r\n:"))
        value, end = decoder.raw_decode(text, value_at)
        found += [(text[at:start], False), (text[start:end], other.get(key, _NONE) != value)]
        at = end
    return [part for part in [*found, (text[at:], False)] if part[0]]


_NONE = object()
