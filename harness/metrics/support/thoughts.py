"""What a model said, without what it only thought between `<think>` and `</think>`."""

from __future__ import annotations

import re

from harness.core import thoughts as core
from harness.metrics.support.code_blocks import blocks
from harness.metrics.support.python_text import parsed, without_prose

_MASK = "\ue0fe"
_TAG = re.compile(r"<(/?)think(?:ing)?>")
_QUOTED = re.compile(r"""(?<!\w)[rbfuRBFU]{0,2}(['"`])(?:\\.|(?!\1)[^\n])*?\1""")
_LONG_STRING = re.compile(
    r'^[ \t]*(?:\w+[ \t]*=[ \t]*|return[ \t]+)?[rbfuRBFU]{0,2}("{3}|\'{3}).*?\1', re.M | re.S
)


def without_thoughts(text: str) -> str:
    """The answer alone (see `core.thoughts`), where code may speak of the marks of thoughts.

    A tag is none in a string, and in a block or an answer that is Python as a whole.
    """
    tags = list(_TAG.finditer(text))
    if not tags:
        return core.without_thoughts(text)
    code = _code(text)
    masked = list(text)
    thinking = False
    for tag in tags:
        if _within(tag, code[0]) or (not thinking and _within(tag, code[1])):
            masked[tag.start()] = _MASK
        else:
            thinking = not tag[1]
    return core.without_thoughts("".join(masked)).replace(_MASK, "<")


def _code(text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where a tag is quoted or stands in a program; and where it stands in a long string."""
    quoted = [found.span() for found in _QUOTED.finditer(text)]
    if _is_python(text):
        return [(0, len(text))], []
    whole = [b.span for b in blocks(text) if b.may_be_python and _is_python(b.code)]
    return quoted + whole, [found.span() for found in _LONG_STRING.finditer(text)]


def _is_python(text: str) -> bool:
    """`so <think>it` is Python, too: a comparison."""
    return parsed(text) is not None and without_prose(text) != ""


def _within(tag: re.Match[str], spans: list[tuple[int, int]]) -> bool:
    return any(start <= tag.start() and tag.end() <= end for start, end in spans)
