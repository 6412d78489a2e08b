"""Exact and near duplicates among texts, and texts contained in others.

Texts are compared as their characters are read: NFKC, small letters, single spaces, no
punctuation. Similarity is exact, over sets of shingles (runs of characters: 5 of them, 2 in
Chinese) through an inverted index; nothing is sampled or hashed away.
"""

from __future__ import annotations

import re
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

_SPACE_BESIDE_CJK = re.compile(f"(?<=[{CJK}]) | (?=[{CJK}])")


@dataclass(frozen=True, slots=True)
class Passage:
    """A row (of a source) or a sample (of a task), and each of its texts that is compared."""

    group: str
    name: str
    texts: tuple[str, ...]


def normalized(text: str) -> str:
    """`text` as it is compared. Spaces beside CJK characters have no meaning and are dropped."""
    return _SPACE_BESIDE_CJK.sub("", normalize_label(text))


def shingles(normal: str) -> frozenset[str]:
    """All runs of 5 characters (2 in Chinese) of a normalized text; a shorter text is its own."""
    size = SHINGLE_ZH if detect_language(normal) == "zh" else SHINGLE
    return frozenset(normal[i : i + size] for i in range(max(1, len(normal) - size + 1)))


class Index:
    """An inverted index of passages: shingle -> texts. More may be added between searches."""

    def __init__(self, held: Iterable[Passage] = ()) -> None:
        self._texts: list[tuple[Passage, str]] = []
        self._sizes: list[int] = []
        self._by_shingle: dict[str, list[int]] = defaultdict(list)
        self.add(held)

    def add(self, held: Iterable[Passage]) -> None:
        for passage in held:
            for normal in filter(None, map(normalized, passage.texts)):
                parts = shingles(normal)
                for part in parts:
                    self._by_shingle[part].append(len(self._texts))
                self._texts.append((passage, normal))
                self._sizes.append(len(parts))

    def like(self, text: str, near: float = NEAR) -> Iterable[tuple[Passage, Kind, float]]:
        """Each passage that a text equals, nearly equals or contains, and the similarity, 0 to 1.

        It is Jaccard's of the two sets of shingles; for `contained` it is the share of the
        passage's shingles that the text has. Passages below `near` are left out.
        """
        normal = normalized(text)
        parts = shingles(normal)
        shared = Counter(n for part in parts for n in self._by_shingle.get(part, ()))
        for number, common in shared.items():
            passage, theirs = self._texts[number]
            size = self._sizes[number]
            if normal == theirs:
                yield passage, "exact", 1.0
            elif (jaccard := common / (len(parts) + size - common)) >= near:
                yield passage, "near", jaccard
            elif size >= SHORTEST_CONTAINED and common / size >= near and len(parts) > size:
                yield passage, "contained", common / size


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
