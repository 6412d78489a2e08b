"""Exact and near duplicates among texts, and texts contained in others.

Texts are compared as their characters are read: NFKC, small letters, single spaces, no
punctuation but the operators between two numbers, and nothing that can't be seen. Two texts of the
same letters and digits are the same, however they are spaced and accented. Similarity is exact,
over sets of shingles (runs of characters: 5 of them, 2 in Chinese). Only texts with a rare shingle
in common are compared; none that is like another is missed so, and nothing is sampled.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.core.language import CJK, normalize_label
from harness.data.characters import Batch, Characters, Codes, weight
from harness.data.shingles import Keys, Table, run_length, shingles

Kind = Literal["exact", "near", "contained"]

NEAR = 0.8
"""Similarity from which two texts count as duplicates by default, 0 to 1."""

SHORTEST_CONTAINED = 20
"""A text of fewer shingles is not searched for inside longer ones: it could stand there by
chance."""

WORD_FOR_WORD, WORD_FOR_WORD_CJK = 12, 8
"""Characters from which even so short a text counts as contained, where it stands there whole."""

Found = tuple[int, tuple["Passage", Kind, float]]
"""The number of a text, and a passage that is like it."""

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


CHARACTERS = Characters(compared, squeezed, CJK_SIGN, _KEPT)
"""Looks characters up for many texts at once."""


_AT_ONCE = 64
"""Texts that are looked through at once: their characters stay near the processor."""


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
        self._keys: dict[tuple[int, float], Keys] = {}
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

    def like_each(
        self, texts: Sequence[str], near: float = NEAR, threads: int | None = None
    ) -> Iterator[tuple[int, Passage, Kind, float]]:
        """What `like` gives for each of many texts, in order, behind the number of the text: the
        same in a tenth of the time. `threads` is 1 to as many as there are processors (the
        default); they change nothing in what is given.
        """
        tables = [self._keys_of(run, near).tabled() for run in sorted(self._present)]
        same = np.unique(np.array([weight(letters) for letters in self._same], np.uint32))

        def alike(start: int) -> list[tuple[int, Passage, Kind, float]]:
            found = self._alike_each(texts[start : start + _AT_ONCE], near, tables, same)
            return [(start + number, *match) for number, match in found]

        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for part in pool.map(alike, range(0, len(texts), _AT_ONCE)):
                yield from part

    def _alike_each(
        self, texts: Sequence[str], near: float, tables: Sequence[Table], same: Codes
    ) -> list[Found]:
        batch = CHARACTERS.read(texts)
        equal = np.isin(CHARACTERS.weights(batch), same)
        found = self._of_batch(batch, equal, near, tables)
        if batch.apart:
            told = Batch.of([compared(texts[number]) for number in batch.apart], batch.apart)
            found += self._of_batch(told, np.ones(len(told.ends), bool), near, tables)
        return sorted(found, key=lambda each: each[0])

    def _of_batch(
        self,
        batch: Batch,
        equal: npt.NDArray[np.bool_],
        near: float,
        tables: Sequence[Table],
    ) -> list[Found]:
        """What is like each text of a batch; `equal` says which ones may be the same as one of the
        index.
        """
        alike: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for table in tables:
            for place, owner in table.found(batch):
                alike[place][table.run].append(owner)
        short = batch.ends - batch.starts < max((table.run for table in tables), default=0)
        given: list[Found] = []
        for place in {*alike, *np.flatnonzero(equal | short).tolist()}:
            normal, number = batch.text(place), int(batch.numbers[place])
            matches: list[tuple[Passage, Kind, float]] = [
                (p, "exact", 1.0) for p in self._same.get(squeezed(normal), ())
            ]
            for run in sorted(self._present):
                found = alike[place][run]
                if short[place] and len(normal) < run:
                    found = self._keys[run, near].found(normal)
                matches += self._alike(normal, run, near, found)
            given += [(number, match) for match in matches]
        return given

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
            yield from self._alike(normal, run, near, self._keys_of(run, near).found(normal))

    def _alike(
        self, normal: str, run: int, near: float, found: Sequence[int]
    ) -> Iterable[tuple[Passage, Kind, float]]:
        """Those of the texts that were found by shingles of `run` characters."""
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

    def _keys_of(self, run: int, near: float) -> Keys:
        """The keys of all texts whose shingles have `run` characters, those added since with
        them.
        """
        if (run, near) not in self._keys:
            self._keys[run, near] = Keys(run, near)
        keys = self._keys[run, near]
        for number in range(keys.texts, len(self._texts)):
            if self._runs[number] == run:
                keys.add(number, self._texts[number][1], self._frequency)
        keys.texts = len(self._texts)
        return keys


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
