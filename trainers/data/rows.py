"""A pipeline's rows: where each was read, what became of it, and which of its values are texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.core.types import Row

SHAPED = ("messages", "text", "prompt", "completion", "chosen", "rejected")
"""The columns that a recipe learns from: where a row has one of them, its texts are these."""

_NO_TEXT = frozenset({"id", "parent", "role", "from", "type", "tool_call_id"})
"""Keys whose values name something and say nothing."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and where it was read: its file, as the pipeline names it, its line there, and the id
    that it had when it was read. `parent` is the id of the row that a step made it of, if one did.
    """

    file: str
    line: int
    id: str
    row: Row
    parent: str = ""

    def saying(self, row: Row) -> Placed:
        """The same row with other content; itself where that is equal."""
        return self if row == self.row else replace(self, row=row)

    def child(self, row: Row, step: str, number: int) -> Placed:
        """A row that `step` makes of this one, the `number`-th. It goes wherever this one goes when
        rows are split into train and validation.
        """
        name = f"{self.id}~{step}{number}"
        return replace(self, id=name, row=row, parent=self.parent or self.id)


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that a step took out. Drops are counted by `reason`; `detail` is this one's own."""

    placed: Placed
    step: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a row is taken out: a `reason` that many have in common, and this one's `detail`."""

    reason: str
    detail: str = ""


Done = tuple[list[Placed], list[Drop]]
"""The rows that a step keeps, in order, and those that it drops."""


def said(row: Row) -> list[str]:
    """A row's texts, in order: of the columns that a recipe learns from, or of all columns where it
    has none of them. Names, roles and ids are no texts, and neither is white space alone.
    """
    shaped = [row[name] for name in SHAPED if name in row]
    return [text for text in _texts(shaped or row) if text.strip()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name not in _NO_TEXT:
                yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def each_said(row: Row, change: Callable[[str], str]) -> Row:
    """The row with every one of its texts changed; names, roles, ids and other columns stay."""
    names = [name for name in SHAPED if name in row] or [n for n in row if n not in _NO_TEXT]
    return {name: _changed(v, change) if name in names else v for name, v in row.items()}


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {n: v if n in _NO_TEXT else _changed(v, change) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(each, change) for each in value]
    return value


def as_line(row: Row) -> str:
    """A row as a line of JSONL, without its end. Raises ValueError for what JSON can't hold."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
