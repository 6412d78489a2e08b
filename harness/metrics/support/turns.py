"""The answers of one conversation as one text, and apart again."""

from __future__ import annotations

from collections.abc import Sequence

_BETWEEN = "\n\x1e\n"
"""A record separator, which no answer holds: there it becomes a space."""


def together(answers: Sequence[str]) -> str:
    return _BETWEEN.join(answer.replace("\x1e", " ") for answer in answers)


def apart(text: str) -> list[str]:
    return text.split(_BETWEEN)
