"""The step that keeps the first of rows that say nearly the same, in any order of words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from harness.data.duplicates import NEAR, compared
from harness.data.shingles import run_length, shingles
from trainers.data.rows import Done, Placed, Why, said
from trainers.data.step import Context, Step, each_row

_Numbers = npt.NDArray[np.uint64]

_LEAST = 0.5
"""Likeness below which the bands miss too many pairs, so that none is asked for."""
_ROWS = 5
_BANDS = {0.8: 25, 0.65: 70, _LEAST: 260}
"""Likeness -> bands of 5 numbers each of which one must be equal: of a hundred thousand pairs at
that likeness at most 30 have none, 1 - (1 - near^5)^bands."""


class Near(Step):
    """The first of rows whose texts are alike from `alike` on: Jaccard's similarity of their
    shingles (runs of 5 characters, 2 in Chinese), 0.5 to 1. Capital letters, white space and
    punctuation make no difference. Rows that share a frame and differ in a number may be alike.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("numpy",)
    alike: float = Field(default=NEAR, ge=_LEAST, le=1)

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        known = Likeness(self.alike)
        kept: list[Placed] = []

        def look(placed: Placed) -> Placed | Why:
            text = Shingled("\n".join(said(placed.row)))
            found = next(known.like(text), None)
            if found is not None:
                other = kept[found[0]]
                where = f"{other.file} line {other.line}, {found[1]:.2f}"
                return Why("nearly the same as another row", where)
            known.add(text)
            kept.append(placed)
            return placed

        return each_row(name, rows, context, look)


class Shingled:
    """A text as it is compared, and the numbers of its shingles: equal runs, equal numbers."""

    def __init__(self, text: str) -> None:
        self.normal = compared(text)
        self.run = run_length(self.normal)
        self.numbers = np.unique(_mixed(self.normal, self.run))
        self.least: npt.NDArray[np.uint32] | None = None


def _mixed(normal: str, run: int) -> _Numbers:
    """64 bits for each run of characters; for a shorter text, one number of the whole."""
    codes = np.frombuffer(normal.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    windows = max(1, len(codes) - run + 1)
    mixed = np.zeros(windows, np.uint64)
    for place in range(min(run, len(codes))):
        mixed = (mixed ^ codes[place : place + windows]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed * np.uint64(0xD6E8FEB86659FD93)


class Likeness:
    """Finds which texts are alike from `near` on. Candidates share a band of their min-hashes; each
    is then compared exactly, so that what is found is alike, and of what is alike next to nothing
    is missed.
    """

    def __init__(self, near: float = NEAR) -> None:
        self._near = near
        self._bands = next(bands for least, bands in _BANDS.items() if near >= least)
        # Fixed: what is found must not depend on the day.
        chance = np.random.Generator(np.random.PCG64(20261201))
        size = self._bands * _ROWS
        # Times an odd number is another order of all numbers; 32 bits are multiplied 8 at once.
        self._factors = chance.integers(0, 2**32, size, np.uint32)[:, None] | np.uint32(1)
        # Five standard deviations of that share: one candidate in millions is lost.
        self._slack = 5 * math.sqrt(self._near * (1 - self._near) / size)
        self._texts: list[Shingled] = []
        self._least = np.zeros((1024, size), np.uint32)
        self._places: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(self._bands)]

    def add(self, text: Shingled) -> None:
        """Give a text the next number, from 0."""
        least = self._least_of(text)
        for place, key in zip(self._places, _keys(text, least), strict=True):
            place[key].append(len(self._texts))
        if len(self._texts) == len(self._least):
            self._least = np.concatenate([self._least, np.zeros_like(self._least)])
        self._least[len(self._texts)] = least
        self._texts.append(text)

    def like(self, text: Shingled) -> Iterator[tuple[int, float]]:
        """(number, similarity 0 to 1) of each added text that is like this one, in order."""
        least = self._least_of(text)
        found: set[int] = set()
        for place, key in zip(self._places, _keys(text, least), strict=True):
            found.update(place.get(key, ()))
        if not found:
            return
        numbers = np.array(sorted(found))
        equal = (self._least[numbers] == least).mean(axis=1)
        for number in numbers[equal >= self._near - self._slack].tolist():
            similarity = self._similarity(text, self._texts[number])
            if similarity >= self._near:
                yield number, similarity

    def _least_of(self, text: Shingled) -> npt.NDArray[np.uint32]:
        """A text's min-hashes: of two texts as large a share is equal as they are alike."""
        if text.least is None or len(text.least) != len(self._factors):
            short = (text.numbers >> np.uint64(32)).astype(np.uint32)
            text.least = (self._factors * short[None, :]).min(axis=1)
        return text.least

    def _similarity(self, one: Shingled, other: Shingled) -> float:
        a, b = one.numbers, other.numbers
        if min(len(a), len(b)) < self._near * max(len(a), len(b)):
            return 0.0
        common = len(np.intersect1d(a, b, assume_unique=True))
        if common < self._near * (len(a) + len(b) - common) * 0.999:
            return 0.0
        # Numbers could be equal by chance: what counts are the characters.
        mine, theirs = shingles(one.normal, one.run), shingles(other.normal, other.run)
        return len(mine & theirs) / len(mine | theirs)


def _keys(text: Shingled, least: npt.NDArray[np.uint32]) -> list[bytes]:
    """The bands of a text's min-hashes; texts of other runs never share one."""
    width = _ROWS * least.itemsize
    data, kind = least.tobytes(), bytes([text.run])
    return [kind + data[at : at + width] for at in range(0, len(data), width)]


def alike_pairs(texts: Sequence[str], near: float = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs of numbers of texts that are alike."""
    known = Likeness(near)
    for number, text in enumerate(texts):
        made = Shingled(text)
        for other, _ in known.like(made):
            yield other, number
        known.add(made)
