"""`UserError`: what is wrong, where (file, line, field), and what to do about it."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A wrong input, reported so that the user can correct it. The CLI prints it and exits with 3.

    `what` is one sentence; `where` names the file, the line and the field, as far as they are
    known; `hint` says what to do.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.file = str(file) if file is not None else None
        self.line = line
        self.field = field
        self.hint = hint
        super().__init__(self.render())

    @property
    def where(self) -> str | None:
        """`file:line, field NAME`, or None where nothing is known."""
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}" if place else f"line {self.line}"
        if self.field:
            place += f", field {self.field}" if place else f"field {self.field}"
        return place or None

    def render(self) -> str:
        """The whole message as plain text, at most three lines."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)


class UnfinishedError(UserError):
    """Nothing is wrong with the input, but the work could not be finished: a dead server, a spent
    budget. What was done is kept, and the same command goes on. The CLI exits with 2,
    inconclusive: no harm was measured.
    """
