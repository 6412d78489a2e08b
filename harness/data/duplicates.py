"""Exact and near duplicates among texts, and texts contained in others.

Texts are compared as their characters are read: NFKC, small letters, single spaces, no
punctuation but the operators between two numbers, and nothing that can't be seen. Two texts of the
same letters and digits are the same, however they are spaced and accented. Similarity is exact,
over sets of shingles (runs of characters: 5 of them, 2 in Chinese). Only texts with a rare shingle
in common are compared; none that is like another is missed so, and nothing is sampled.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.core.language import CJK, detect_language, normalize_label

Kind = Literal["exact", "near", "contained"]

NEAR = 0.8
"""Similarity from which two texts count as duplicates by default, 0 to 1."""

SHINGLE = 5
SHINGLE_ZH = 2
SHORTEST_CONTAINED = 20
"""A text of fewer shingles is not searched for inside longer ones: it could stand there by
chance."""

WORD_FOR_WORD, WORD_FOR_WORD_CJK = 12, 8
"""Characters from which even so short a text counts as contained, where it stands there whole."""

_UNSEEN = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u034f\u115f\u1160\u17b4\u17b5\u3164]")
"""Marks without a glyph beside those of the category Cf."""
_OPERATOR = re.compile(r"(?<=\d)(?:\s*([-+*/^=<>])\s*|([.:]))(?=\d)")
_KEPT = 0xE000
"""Private characters from here on stand for operators, which are no punctuation there."""
_ACCENT = re.compile("[\u0300-\u036f]")
CJK_SIGN = re.compile(f"[{CJK}]")
_SPACE_BESIDE_CJK = re.compile(f"(?<=[{CJK}]) | (?=[{CJK}])")


class _Seen(dict[int, str | int | None]):
    """What stands for each character that can't be seen (None) or is an operator, as
    `str.translate` asks for it: each character is looked up once.
    """

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        hidden = unicodedata.category(character) == "Cf" or _UNSEEN.match(character)
        self[code] = None if hidden else code
        return None if hidden else code


_SEEN = _Seen(str.maketrans("−×÷", "-*/"))


@dataclass(frozen=True, slots=True)
class Passage:
    """A row (of a source) or a sample (of a task), and each of its texts that is compared.

    `parts` are what likeness is looked for in, where a text is more than what it has of its own:
    then only what equals the whole text is the same. Without parts the texts are it. `joined` are
    several of its texts as one, which may be like another as a whole, but contain nothing that one
    of them doesn't.
    """

    group: str
    name: str
    texts: tuple[str, ...]
    parts: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()


def normalized(text: str) -> str:
    """`text` as it is compared. Spaces beside CJK characters have no meaning and are dropped."""
    words = normalize_label(text)
    return words if words.isascii() else _SPACE_BESIDE_CJK.sub("", words)


def compared(text: str) -> str:
    """`normalized` without what can't be seen, and with the operators between two numbers."""
    kept = _OPERATOR.sub(
        lambda found: chr(_KEPT + ord(found[1] or found[2])), text.translate(_SEEN)
    )
    return normalized(kept)


def squeezed(text: str) -> str:
    """The letters and digits of a `compared` text alone, without spaces and accents."""
    apart = _ACCENT.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFKC", "".join(apart.split()))


def shingles(normal: str, size: int | None = None) -> frozenset[str]:
    """All runs of 5 characters (2 in Chinese), or of `size`, of a normalized text; a shorter text
    is its own.
    """
    size = size or run_length(normal)
    return frozenset([normal[i : i + size] for i in range(max(1, len(normal) - size + 1))])


def run_length(normal: str) -> int:
    """How many characters the shingles of a normalized text have."""
    return SHINGLE_ZH if detect_language(normal) == "zh" else SHINGLE


_HITS = 8
"""How many of its rare shingles a text shares with another before the two are compared."""
_BITS = 20


@dataclass(slots=True)
class _Keys:
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
    marked: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1 << _BITS, bool))
    """Whether any key has a number, for a glance at a whole text before its shingles are made."""

    def add(self, number: int, normal: str, frequency: Counter[str]) -> None:
        parts = shingles(normal, self.run)
        rarest = sorted(parts, key=lambda part: (frequency[part], part))
        least = least_common(len(parts), self.near)
        self.hits[number] = min(_HITS, least)
        kept = set(rarest[: len(parts) - least + self.hits[number]])
        for part in kept:
            self.by_shingle.setdefault(part, []).append(number)
        numbers = _numbers(normal, self.run)
        self.marked[
            [n for i, n in enumerate(numbers.tolist()) if normal[i : i + self.run] in kept]
        ] = True

    def found(self, normal: str) -> list[int]:
        """The numbers of the texts that a `compared` one may be like, in order."""
        places = np.flatnonzero(self.marked[_numbers(normal, self.run)]).tolist()
        shared: dict[int, int] = defaultdict(int)
        for key in {normal[place : place + self.run] for place in places}:
            for number in self.by_shingle.get(key, ()):
                shared[number] += 1
        return sorted(number for number, hits in shared.items() if hits >= self.hits[number])


def _numbers(normal: str, run: int) -> npt.NDArray[np.uint64]:
    """A number of 20 bits for each run of characters; for a shorter text one, of the whole."""
    codes = np.frombuffer(normal.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    windows = max(1, len(codes) - run + 1)
    mixed = np.zeros(windows, np.uint64)
    for place in range(min(run, len(codes))):
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += codes[place : place + windows]
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed >>= np.uint64(64 - _BITS)
    return mixed


class Index:
    """An index of passages by their rare shingles. More may be added between searches.

    `word_for_word`: whether a text of less than 20 shingles counts as contained where it stands in
    another one as a whole.
    """

    def __init__(self, held: Iterable[Passage] = (), *, word_for_word: bool = False) -> None:
        self._texts: list[tuple[Passage, str]] = []
        self._parts: list[frozenset[str]] = []
        self._runs: list[int] = []
        self._present: set[int] = set()
        self._frequency: Counter[str] = Counter()
        self._keys: dict[tuple[int, float], _Keys] = {}
        self._same: dict[str, list[Passage]] = defaultdict(list)
        self._word_for_word = word_for_word
        self.add(held)

    def add(self, held: Iterable[Passage]) -> None:
        for passage in held:
            for text in passage.texts:
                if letters := squeezed(compared(text)):
                    self._same[letters].append(passage)
            for normal in filter(None, map(compared, passage.parts or passage.texts)):
                parts = shingles(normal)
                self._frequency.update(parts)
                self._texts.append((passage, normal))
                self._parts.append(parts)
                self._runs.append(run_length(normal))
                self._present.add(self._runs[-1])

    def like(self, text: str, near: float = NEAR) -> Iterable[tuple[Passage, Kind, float]]:
        """Each passage that a text equals, nearly equals or contains, and the similarity, 0 to 1.

        It is Jaccard's of the two sets of shingles; for `contained` it is the share of the
        passage's shingles that the text has. Passages below `near` are left out. The runs are as
        long as the passage's: a text in two languages is looked through for either.
        """
        normal = compared(text)
        for passage in self._same.get(squeezed(normal), ()):
            yield passage, "exact", 1.0
        for run in sorted(self._present):
            yield from self._alike(normal, run, near)

    def _alike(self, normal: str, run: int, near: float) -> Iterable[tuple[Passage, Kind, float]]:
        """Those of `like` whose shingles have `run` characters."""
        found = self._keys_of(run, near).found(normal)
        parts = shingles(normal, run) if found else frozenset()
        for number in found:
            passage, theirs = self._texts[number]
            size = len(self._parts[number])
            common = len(parts & self._parts[number])
            if normal == theirs:
                yield passage, "exact", 1.0
            elif (jaccard := common / (len(parts) + size - common)) >= near:
                yield passage, "near", jaccard
            elif size >= SHORTEST_CONTAINED:
                if common / size >= near and len(parts) > size:
                    yield passage, "contained", common / size
            elif self._word_for_word and common == size and stands_in(theirs, normal):
                yield passage, "contained", 1.0

    def _keys_of(self, run: int, near: float) -> _Keys:
        """The keys of all texts whose shingles have `run` characters, those added since with
        them.
        """
        if (run, near) not in self._keys:
            self._keys[run, near] = _Keys(run, near)
        keys = self._keys[run, near]
        for number in range(keys.texts, len(self._texts)):
            if self._runs[number] == run:
                keys.add(number, self._texts[number][1], self._frequency)
        keys.texts = len(self._texts)
        return keys


def least_common(size: int, near: float) -> int:
    """How many of a text's `size` shingles another one has that is like it from `near` on, at
    least 1: the smallest number whose share, as it is calculated, is not below `near`.
    """
    least = min(size, max(1, math.floor(near * size) - 1))
    while least < size and least / size < near:
        least += 1
    return least


def stands_in(short: str, long: str) -> bool:
    """Whether a `compared` text stands in another one word for word: one of 12 characters and more
    (8 where there are Chinese ones), between spaces where it has no Chinese ones.
    """
    if not says_enough(short):
        return False
    return short in long if CJK_SIGN.search(short) else f" {short} " in f" {long} "


def says_enough(short: str) -> bool:
    """Whether a `compared` text is long enough not to stand in another one by chance."""
    return len(short) >= (WORD_FOR_WORD_CJK if CJK_SIGN.search(short) else WORD_FOR_WORD)


def first_like(
    index: Index, texts: Sequence[str], *, near: float = NEAR, besides: str | None = None
) -> Passage | None:
    """The passage most like any of these texts; None where none reaches `near`, 0 to 1.

    `besides` is the name of a passage to leave out: the one that the texts come from.
    """
    found = [
        match for text in texts for match in index.like(text, near) if match[0].name != besides
    ]
    return max(found, key=lambda match: match[2])[0] if found else None
