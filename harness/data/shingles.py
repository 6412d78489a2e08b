"""The rare shingles by which texts that may be alike are found: by one text, or by many at once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.core.language import detect_language
from harness.data.characters import Batch, Codes, codes_of

Numbers = npt.NDArray[np.intp]

SHINGLE = 5
SHINGLE_ZH = 2


def shingles(normal: str, size: int | None = None) -> frozenset[str]:
    """All runs of 5 characters (2 in Chinese), or of `size`, of a normalized text; a shorter text
    is its own.
    """
    size = size or run_length(normal)
    return frozenset([normal[i : i + size] for i in range(max(1, len(normal) - size + 1))])


def run_length(normal: str) -> int:
    """How many characters the shingles of a normalized text have."""
    return SHINGLE_ZH if detect_language(normal) == "zh" else SHINGLE


def least_common(size: int, near: float) -> int:
    """How many of a text's `size` shingles another one has that is like it from `near` on, at
    least 1: the smallest number whose share, as it is calculated, is not below `near`.
    """
    least = min(size, max(1, math.floor(near * size) - 1))
    while least < size and least / size < near:
        least += 1
    return least


_FOLDED = 16
"""Bits of the numbers by which all shingles of two texts are compared at first."""
_HITS = 8
"""How many of its rare shingles a text shares with another before the two are compared."""


@dataclass(slots=True)
class Keys:
    """The rare shingles by which texts are found, for one likeness and one length of shingles.

    A text that is like another from `near` on has at least that part of its shingles. So it has
    `_HITS` of those that are left when all but `_HITS` of that part are taken away, whichever those
    are: the rarest are left, and few texts have several of them by chance.
    """

    run: int
    near: float
    texts: int = 0
    """How many texts of the index have been gone through."""
    by_shingle: dict[str, list[int]] = field(default_factory=dict)
    hits: dict[int, int] = field(default_factory=dict)
    """How many of its keys each text is found by."""
    all: dict[int, tuple[int, Numbers]] = field(default_factory=dict)
    """How many shingles each text has in common with one like it, and the numbers of all."""
    table: Table | None = None

    def add(self, number: int, normal: str, frequency: Counter[str]) -> None:
        parts = shingles(normal, self.run)
        rarest = sorted(parts, key=lambda part: (frequency[part], part))
        least = least_common(len(parts), self.near)
        self.hits[number] = min(_HITS, least)
        for part in rarest[: len(parts) - least + self.hits[number]]:
            self.by_shingle.setdefault(part, []).append(number)
        if len(normal) >= self.run:
            self.all[number] = least, _numbers_of(parts, self.run, _FOLDED)
        self.table = None

    def found(self, normal: str) -> list[int]:
        """The numbers of the texts that a `compared` one may be like, in order."""
        shared: dict[int, int] = defaultdict(int)
        for key in shingles(normal, self.run) & self.by_shingle.keys():
            for number in self.by_shingle[key]:
                shared[number] += 1
        return sorted(number for number, hits in shared.items() if hits >= self.hits[number])

    def tabled(self) -> Table:
        """The keys as a table, for many texts at once."""
        if self.table is None:
            self.table = Table.of(self)
        return self.table


@dataclass(frozen=True, slots=True)
class Table:
    """Which texts have a key of each number: keys of one number are taken for one, so that more
    may be found here than by the keys themselves, and never less.
    """

    run: int
    bits: int
    marked: npt.NDArray[np.bool_]
    first: npt.NDArray[np.int32]
    """Where in `owners` those of each number begin."""
    owners: npt.NDArray[np.int32]
    hits: npt.NDArray[np.int32]
    all: dict[int, tuple[int, Numbers]]

    @classmethod
    def of(cls, keys: Keys) -> Table:
        # A text shorter than the shingles is found by what is no run of characters of others.
        whole = [key for key in keys.by_shingle if len(key) == keys.run]
        bits = min(26, max(_FOLDED, (16 * len(whole)).bit_length()))
        numbers = _numbers_of(whole, keys.run, bits)
        owned = [keys.by_shingle[key] for key in whole]
        each = np.repeat(numbers, [len(owners) for owners in owned])
        owners = np.array([o for owners in owned for o in owners], np.int32)
        order = np.argsort(each, kind="stable")
        first = np.zeros((1 << bits) + 1, np.int32)
        np.cumsum(np.bincount(each, minlength=1 << bits), out=first[1:])
        hits = np.full(keys.texts, np.iinfo(np.int32).max, np.int32)
        hits[list(keys.hits)] = list(keys.hits.values())
        return cls(keys.run, bits, np.diff(first) > 0, first, owners[order], hits, keys.all)

    def found(self, batch: Batch) -> Iterable[tuple[int, int]]:
        """(Text of the batch, text of the index) that may be alike, in order."""
        numbers = _numbers(batch.codes, self.run, self.bits)
        places = np.flatnonzero(self.marked.take(numbers))
        keys = numbers[places]
        starts = self.first[keys]
        counts = self.first[keys + 1] - starts
        behind = np.cumsum(counts)
        if not len(behind) or not behind[-1]:
            return
        # The owners of each key, one run of them behind the other.
        owners = self.owners[np.arange(behind[-1]) + np.repeat(starts - behind + counts, counts)]
        texts = np.repeat(np.searchsorted(batch.ends, places), counts)
        for text, owner in self._often(texts, owners):
            start = batch.ends[text - 1] + 1 if text else 0
            if self._enough(numbers[start : batch.ends[text]], owner):
                yield text, owner

    def _often(self, texts: Numbers, owners: Numbers) -> Iterable[tuple[int, int]]:
        """The pairs that are there as often as the owner's keys ask for. What a text says twice
        counts twice: so more may be found, and nothing is sorted.
        """
        held = len(self.hits)
        pairs = texts * held + owners
        if (int(texts[-1]) + 1) * held < 16 * len(pairs):
            shared = np.bincount(pairs, minlength=(int(texts[-1]) + 1) * held)
            often = np.flatnonzero(shared.reshape(-1, held) >= self.hits)
        else:
            known, shared = np.unique(pairs, return_counts=True)
            often = known[shared >= self.hits[known % held]]
        return zip((often // held).tolist(), (often % held).tolist(), strict=True)

    def _enough(self, numbers: Numbers, owner: int) -> bool:
        """Whether a text of these numbers may have as many of the owner's shingles as it must."""
        least, parts = self.all[owner]
        present = np.zeros(1 << _FOLDED, bool)
        present[numbers >> (self.bits - _FOLDED)] = True
        return int(present[parts].sum()) >= least


def _numbers_of(parts: Iterable[str], run: int, bits: int) -> Numbers:
    """The number of each of some runs of characters."""
    return _numbers(codes_of("".join(parts)), run, bits)[::run]


def _numbers(codes: Codes, run: int, bits: int) -> Numbers:
    """A number of so many bits for each run of characters."""
    windows = max(0, len(codes) - run + 1)
    mixed = np.zeros(windows, np.uint32)
    for place in range(run):
        mixed *= np.uint32(0x7F4A7C15)
        mixed += codes[place : place + windows]
    mixed *= np.uint32(0x9E3779B1)
    mixed >>= np.uint32(32 - bits)
    return mixed.astype(np.intp)
