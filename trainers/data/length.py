"""The step that keeps rows of a sensible length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from harness.core.language import CJK
from trainers.data.rows import Done, Placed, Why, said
from trainers.data.step import Context, Step, each_row

_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？…])\s*|\n+")
_CHARACTER = re.compile(f"[{CJK}]")
_RUN = re.compile(f"[{CJK}]+")
_LETTERS = re.compile(r"[^\W_]+")
_WORD = re.compile(r"\S*[^\W_]\S*")


class Length(Step):
    """From `min` to `max` characters in all of a row's texts together, and at least `sentence`
    words in the mean sentence; of Chinese a character counts as a word. 0 asks for nothing.
    """

    min: int = Field(default=5, ge=0)
    max: int = Field(default=1024, ge=1)
    sentence: float = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("`min` is above `max`: no row has such a length")
        return self

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            texts = said(placed.row)
            count = sum(map(len, texts))
            if count < self.min:
                return Why(f"shorter than {self.min} characters", f"{count}")
            if count > self.max:
                return Why(f"longer than {self.max} characters", f"{count}")
            if self.sentence and (mean := words_a_sentence(texts)) < self.sentence:
                return Why(f"fewer than {self.sentence:g} words a sentence", f"{mean:.1f}")
            return placed

        return each_row(name, rows, context, look)


def words_a_sentence(texts: Sequence[str]) -> float:
    """The mean number of words of the sentences that have any; a Chinese character is a word."""
    counts = [words_in(part) for text in texts for part in _ENDS.split(text)]
    filled = [count for count in counts if count]
    return sum(filled) / len(filled) if filled else 0.0


def words_in(text: str) -> int:
    """Words between spaces that have a letter or a digit; each Chinese character is one."""
    if text.isascii():
        return len(_WORD.findall(text))
    return len(_CHARACTER.findall(text)) + len(_WORD.findall(_CHARACTER.sub(" ", text)))


def words_of(text: str) -> Iterator[str]:
    """The words of a text in small letters, and the pairs of its neighbouring Chinese characters,
    as texts of one domain are told from others by.
    """
    if not text.isascii():
        for run in _RUN.findall(text):
            yield from map("".join, pairwise(run))
        text = _CHARACTER.sub(" ", text)
    yield from _LETTERS.findall(text.lower())
