"""Exact and near duplicates among texts, and texts contained in others.

Texts are compared as their characters are read: NFKC, small letters, single spaces, no
punctuation but the operators between two numbers, and nothing that can't be seen. Two texts of the
same letters and digits are the same, however they are spaced and accented. Similarity is exact,
over sets of shingles (runs of characters: 5 of them, 2 in Chinese) through an inverted index;
nothing is sampled or hashed away.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core.language import CJK, detect_language, normalize_label

if TYPE_CHECKING:
    pass

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
_ASCII_OPERATORS = str.maketrans("−×÷", "-*/")
_OPERATOR = re.compile(r"(?<=\d)(?:\s*([-+*/^=<>])\s*|([.:]))(?=\d)")
_KEPT = 0xE000
"""Private characters from here on stand for operators, which are no punctuation there."""
_ACCENT = re.compile("[\u0300-\u036f]")
CJK_SIGN = re.compile(f"[{CJK}]")
_SPACE_BESIDE_CJK = re.compile(f"(?<=[{CJK}]) | (?=[{CJK}])")


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
    return _SPACE_BESIDE_CJK.sub("", normalize_label(text))


def compared(text: str) -> str:
    """`normalized` without what can't be seen, and with the operators between two numbers."""
    seen = _UNSEEN.sub("", "".join(c for c in text if unicodedata.category(c) != "Cf"))
    seen = seen.translate(_ASCII_OPERATORS)
    kept = _OPERATOR.sub(lambda found: chr(_KEPT + ord(found[1] or found[2])), seen)
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
    return frozenset(normal[i : i + size] for i in range(max(1, len(normal) - size + 1)))


def run_length(normal: str) -> int:
    """How many characters the shingles of a normalized text have."""
    return SHINGLE_ZH if detect_language(normal) == "zh" else SHINGLE


class Index:
    """An inverted index of passages: shingle -> texts. More may be added between searches.

    `word_for_word`: whether a text of less than 20 shingles counts as contained where it stands in
    another one as a whole.
    """

    def __init__(self, held: Iterable[Passage] = (), *, word_for_word: bool = False) -> None:
        self._texts: list[tuple[Passage, str]] = []
        self._sizes: list[int] = []
        self._runs: list[int] = []
        self._present: set[int] = set()
        self._by_shingle: dict[str, list[int]] = defaultdict(list)
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
                for part in parts:
                    self._by_shingle[part].append(len(self._texts))
                self._texts.append((passage, normal))
                self._sizes.append(len(parts))
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
        for run in self._present:
            yield from self._alike(normal, run, near)

    def _alike(self, normal: str, run: int, near: float) -> Iterable[tuple[Passage, Kind, float]]:
        """Those of `like` whose shingles have `run` characters."""
        parts = shingles(normal, run)
        shared = Counter(n for part in parts for n in self._by_shingle.get(part, ()))
        for number, common in shared.items():
            if self._runs[number] != run:
                continue
            passage, theirs = self._texts[number]
            size = self._sizes[number]
            if normal == theirs:
                yield passage, "exact", 1.0
            elif (jaccard := common / (len(parts) + size - common)) >= near:
                yield passage, "near", jaccard
            elif size >= SHORTEST_CONTAINED:
                if common / size >= near and len(parts) > size:
                    yield passage, "contained", common / size
            elif self._word_for_word and common == size and stands_in(theirs, normal):
                yield passage, "contained", 1.0


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
