"""Reads YAML into a validated model; errors name the file, the line and the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.core.errors import UserError
from harness.core.strict_model import fault
from harness.core.text_file import is_whole, read_text

Place = tuple[str | int, ...]
"""The keys and list positions that lead to a field, from the outermost on."""
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A parsed YAML file and the line of each of its fields, from 1."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Place, int]

    def line_of(self, place: Place) -> int | None:
        """The line of a field, or of the nearest enclosing field that is there."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return None

    def error(self, what: str, place: Place = (), *, hint: str | None = None) -> UserError:
        """A UserError that points at a field of this document."""
        field = ".".join(str(part) for part in place) or None
        return UserError(what, file=self.path, line=self.line_of(place), field=field, hint=hint)


def load_yaml(path: Path, *, what: str) -> YamlDocument:
    """Parse one YAML mapping, refusing duplicate keys. Raises UserError."""
    try:
        return _parsed(path, what)
    except RecursionError:
        hint = f"a {what} has a few levels of keys"
        raise UserError("this is nested too deeply", file=path, hint=hint) from None


def _parsed(path: Path, what: str) -> YamlDocument:
    text = read_text(path, what=what)
    try:
        # `safe_load` below keeps no lines, and of a key written twice only the last value.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _unreadable(error, path) from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError(
            f"a {what} is a mapping of keys to values",
            file=path,
            line=1,
            hint="write one `key: value` a line",
        )
    lines: dict[Place, int] = {(): 1}
    _collect_lines(root, (), lines, path)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _unreadable(error, path) from None
    except ValueError as error:
        # PyYAML takes 2026-02-31 for a date, and its error names no line.
        raise UserError(
            f"a value looks like a date or a number, but is not a valid one: {error}",
            file=path,
            hint="put quotes around it",
        ) from None
    return YamlDocument(path, data, lines)


def _unreadable(error: yaml.YAMLError, path: Path) -> UserError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(
        f"this is not valid YAML: {problem}",
        file=path,
        line=mark.line + 1 if mark else None,
        hint="check the indentation and the quotes near that line",
    )


def _check_characters(node: yaml.ScalarNode, place: Place, path: Path) -> None:
    """Raise UserError for what an escape can write, and no file, path or prompt can hold."""
    what = "half a character" if not is_whole(node.value) else "a NUL" * ("\0" in node.value)
    if what:
        raise UserError(
            f"{what} stands here",
            file=path,
            line=node.start_mark.line + 1,
            field=".".join(map(str, place)) or None,
            hint="correct the text where it was escaped with a backslash",
        )


def _collect_lines(
    node: yaml.Node,
    place: Place,
    lines: dict[Place, int],
    path: Path,
    within: tuple[yaml.Node, ...] = (),
) -> None:
    if node in within:
        raise UserError(
            "an alias stands inside the value that it refers to",
            file=path,
            line=node.start_mark.line + 1,
            hint="write the value out",
        )
    within = (*within, node)
    if isinstance(node, yaml.ScalarNode):
        _check_characters(node, place, path)
    elif isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(
                    "a key is a plain word here, not a list or a mapping",
                    file=path,
                    line=key_node.start_mark.line + 1,
                    hint="check the indentation and the quotes near that line",
                )
            _check_characters(key_node, place, path)
            child = (*place, key_node.value)
            if child in lines:
                raise UserError(
                    f"the key {key_node.value!r} is written twice (first on line {lines[child]})",
                    file=path,
                    line=key_node.start_mark.line + 1,
                    field=".".join(map(str, child)),
                    hint="keep one of them",
                )
            lines[child] = key_node.start_mark.line + 1
            _collect_lines(value_node, child, lines, path, within)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*place, index)] = item.start_mark.line + 1
            _collect_lines(item, (*place, index), lines, path, within)


def validate(model: type[ModelT], document: YamlDocument) -> ModelT:
    """The document as `model`. Raises UserError with the file, the line and the field."""
    try:
        # A field that has an alias is written under it, and under nothing else.
        return model.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        what, raw, hint = fault(error, model)
        place = _real_place(raw, document)
        raise document.error(what, place, hint=hint) from None


def _real_place(raw: Place, document: YamlDocument) -> Place:
    """Drop the parts that pydantic adds for unions and validators but no YAML key has."""
    place: Place = ()
    node: Any = document.data
    for part in raw:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[int(part)]
        elif part is raw[-1] and isinstance(part, str) and isinstance(node, dict):
            return (*place, part)  # a missing key has a name, but no node
        else:
            continue
        place = (*place, part)
    return place
