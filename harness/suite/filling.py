"""Fills the templates of a task from one row of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Picture
from harness.core.yaml_file import Place, YamlDocument
from harness.data import templates
from harness.data.pictures import picture_of
from harness.data.sources import SourceRow
from harness.suite.schema import TaskModel


@dataclass(frozen=True)
class Filling:
    """Fills a task's templates from one row; its errors name both places."""

    task: str
    model: TaskModel
    found: SourceRow
    document: YamlDocument

    def text(self, source: str, *keys: str | int) -> str:
        fill: Callable[..., str] = templates.render
        if keys == ("system",):
            fill = templates.system_turn
        return self._text(lambda: fill(source, self.found.row), "prompt", *keys)

    def value(self, source: str, *keys: str | int) -> Any:
        return self._filled(lambda: templates.value(source, self.found.row), "prompt", *keys)

    def picture(self, source: Any) -> Picture:
        """A picture beside the file that the row is of. Raises MessagesError."""
        return picture_of(source, self.found.file.parent)

    def reference(self, source: str) -> str:
        # A list in an answer may be several answers; it is JSON where a metric of JSON reads it.
        of_json = any(_name_of(entry).startswith("json_") for entry in self.model.metrics)
        meant: templates.Meant = "json" if of_json else "object"
        return self._text(
            lambda: templates.render(source, self.found.row, meant=meant), "reference"
        )

    def query(self, source: str) -> str:
        return self._text(lambda: templates.render(source, self.found.row), "retrieve", "query")

    def given(self, source: str) -> str:
        return self._text(lambda: templates.render(source, self.found.row), "text")

    def wrong(self, what: str, *keys: str | int, hint: str | None = None) -> UserError:
        return self._error(what, ("prompt", *keys), hint)

    def _text(self, fill: Callable[[], str], *keys: str | int) -> str:
        return str(self._filled(fill, *keys))

    def _filled(self, fill: Callable[[], Any], *keys: str | int) -> Any:
        try:
            return fill()
        except templates.TemplateError as error:
            raise self._error(
                f"the template of {self.document.path.name}:{self._line_of(keys)} "
                f"can't be filled: {error}",
                keys,
                "correct the template, or add the field to this row",
            ) from None

    def _error(self, what: str, keys: Place, hint: str | None) -> UserError:
        field = ".".join(map(str, keys))
        return UserError(what, file=self.found.file, line=self.found.line, field=field, hint=hint)

    def _line_of(self, keys: Place) -> int | None:
        return self.document.line_of(("tasks", self.task, *keys))


def _name_of(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else next(iter(entry), "")
