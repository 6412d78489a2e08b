"""Docstrings as this repository writes them, made into Markdown: aligned lines become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

TERM = re.compile(r"^([A-Za-z_][\w*]*(?:, [A-Za-z_]\w*)*)(?: {2,}| (?=[a-z0-9ε]))(\S.*)$")
ALIGNED = re.compile(r"^[A-Za-z_]\w*(?:, [A-Za-z_]\w*)* {2,}\S")


class AlignedLists(griffe.Extension):
    """`name   what it means`, with deeper lines that go on, is a list of terms."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Each paragraph with an aligned line in it becomes a list; the others stay as they are."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(_listed(p) if _is_aligned(p) else p for p in paragraphs)


def _is_aligned(paragraph: str) -> bool:
    first = paragraph.split("\n", 1)[0]
    return bool(TERM.match(first)) and any(map(ALIGNED.match, paragraph.split("\n")))


def _listed(paragraph: str) -> str:
    items: list[str] = []
    for line in paragraph.split("\n"):
        term = None if line.startswith(" ") else TERM.match(line)
        if term is not None:
            names = ", ".join(f"`{name}`" for name in term[1].split(", "))
            items.append(f"- {names}: {term[2]}")
        else:
            items.append(f"  {line.strip()}")
    return "\n".join(items)
