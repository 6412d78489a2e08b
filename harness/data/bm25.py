"""Finds the passages that fit a question by BM25, over words and pairs of Chinese characters.

Needs the extra `rag` (bm25s).
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core.errors import UserError
from harness.core.language import CJK
from harness.core.scripts import words

_RUNS = re.compile(f"[{CJK}]+|[^{CJK}]+")
_IS_CJK = re.compile(f"[{CJK}]")


def terms(text: str) -> list[str]:
    """What is looked for of a text: its words in small letters, and of a run of Han, kana or hangul
    each pair of neighbours (`茶叶店` is `茶叶` and `叶店`); a run of one character is itself.
    """
    found: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text).casefold()):
        if not _IS_CJK.match(run):
            found += words(run)
        elif len(run) == 1:
            found.append(run)
        else:
            found += [run[place : place + 2] for place in range(len(run) - 1)]
    return found


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that can be found, and the id by which it is cited."""

    id: str
    text: str


@dataclass(frozen=True)
class Index:
    """Passages by the terms in them. Raises UserError where bm25s is not installed."""

    passages: Sequence[Passage]
    _bm25: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("bm25s") is None:
            raise UserError("bm25s is not installed", hint="pip install 'ratchet-eval[rag]'")
        from bm25s import BM25

        # Lucene's form, k1 1.5 and b 0.75: a term that many passages have weighs little, never
        # less than nothing. Where no passage has a term there is nothing to be indexed.
        listed = [terms(passage.text) for passage in self.passages]
        index = BM25(method="lucene", k1=1.5, b=0.75) if any(listed) else None
        if index is not None:
            index.index(listed, show_progress=False)
        object.__setattr__(self, "_bm25", index)

    def find(self, question: str, k: int) -> list[Passage]:
        """The `k` passages that fit best, best first, of equal ones those that come first; fewer
        where fewer share a term with the question.
        """
        asked = terms(question)
        if self._bm25 is None or not asked:
            return []
        scores = self._bm25.get_scores(asked)
        best = np.argsort(-scores, kind="stable")[:k]
        return [self.passages[place] for place in best if scores[place] > 0]
