"""Occlusion: how the answer's log-probability changes with one word of the question left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"[A-Za-zÀ-ɏͰ-ϿЀ-ӿ0-9_'’-]+|\S")
"""A word of letters; of any other script each character is one."""


def words_of(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each word in a text."""
    return [found.span() for found in _WORD.finditer(text)]


def left_out(text: str, words: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The text without each of the words in turn, and without the blank that it leaves."""
    for begin, end in words:
        before, behind = text[:begin], text[end:]
        if before[-1:].isspace() and behind[:1].isspace():
            behind = behind[1:]
        yield before + behind
