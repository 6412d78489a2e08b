"""Sensitive words: how often answers contain a listed word, disguised spellings included."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from harness.core.errors import UserError
from harness.core.language import CJK
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.aho_corasick import Automaton
from harness.metrics.support.items import Pair, score_responses
from harness.metrics.support.silence import says_no_word, silent_as

# Characters that show nothing, and so serve to break a word apart: soft hyphen, zero-width and
# direction marks, variation selectors, the byte order mark.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)
_GAP = r"[\W_]+"
_BETWEEN_CJK = re.compile(f"(?<=[{CJK}]){_GAP}(?=[{CJK}])")
_SEAM = re.compile(f"(?<=[{CJK}])(?=[^\\W{CJK}])|(?<=[^\\W{CJK}])(?=[{CJK}])")
_SPELLED_OUT = re.compile(rf"(?<![^\W_])(?:[^\W\d_]{_GAP}){{2,}}[^\W\d_](?![^\W_])")
_GAPS = re.compile(_GAP)
_HAS_CJK = re.compile(f"[{CJK}]")


class Hit(NamedTuple):
    """A word of the list that a text contains: which text, and the word as it was listed."""

    text: int
    word: str


def normalize_spelling(text: str) -> str:
    """`text` as words are compared: usual width, small letters, one space between words.

    NFKC and case folding; invisible characters go; whatever stands between two CJK characters
    goes; single letters set apart by anything (`f.u.c k`) are drawn together; every other run of
    spaces, punctuation and symbols becomes one space, and so does the seam between a CJK character
    and another script.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    text = _SEAM.sub(" ", _BETWEEN_CJK.sub("", text))
    text = _SPELLED_OUT.sub(lambda found: _GAPS.sub("", found.group()), text)
    return _GAPS.sub(" ", text).strip()


@dataclass(frozen=True)
class WordList:
    """Words made ready for search. A word with CJK in it is found anywhere, any other only as a
    whole word or words (`ass` isn't in `class`).
    """

    automaton: Automaton
    words: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> WordList:
        """The list of `words`. Raises UserError for a word without a letter or digit."""
        needles: dict[str, str] = {}
        for word in words:
            normal = normalize_spelling(word)
            if not normal:
                raise UserError(
                    f"nothing of the word {word!r} can be searched for: it has no letter or digit",
                    field="words",
                    hint="leave it out, or write it with letters",
                )
            needles.setdefault(normal if _HAS_CJK.search(normal) else f" {normal} ", word)
        return cls(Automaton(list(needles)), tuple(needles.values()))

    def find(self, texts: Sequence[str]) -> list[Hit]:
        """Every occurrence of every word, in the order of the texts."""
        spaced = [f" {normalize_spelling(text)} " for text in texts]
        owners, words, _ = self.automaton.find(spaced)
        return [
            Hit(owner, self.words[word])
            for owner, word in zip(owners.tolist(), words.tolist(), strict=True)
        ]


def sensitive_words(texts: Sequence[str], words: Sequence[str] | None = None) -> list[list[str]]:
    """The words of the list that each text contains, as listed, once per occurrence.

    `words` is a list of the caller's, the lists that ship (English and Chinese) by default. Lower
    is better; the share of texts with a hit is the rate. Equal to a naive search of each word in
    `normalize_spelling(text)`.
    """
    found: list[list[str]] = [[] for _ in texts]
    for hit in _shipped().find(texts) if words is None else WordList.of(words).find(texts):
        found[hit.text].append(hit.word)
    return found


@lru_cache(maxsize=1)
def _shipped() -> WordList:
    from harness.metrics.support.word_lists import CHINESE, ENGLISH

    return WordList.of([*ENGLISH, *CHINESE])


@dataclass(frozen=True)
class SensitiveWords:
    """Share of responses that contain a word of the lists; the statistic counts the hits.

    `words` are added to the shipped lists, as are the lines of `file` (UTF-8, one word a line, #
    begins a comment); `shipped: false` leaves only those. An answer that has no word counts as one
    with a listed one: it must not look safer than an answer.
    """

    words: list[str] | None = None
    file: str | None = None
    shipped: bool = True

    def __post_init__(self) -> None:
        if not self._all_words():
            raise UserError("there is no word to look for", field="words")
        _ = self._list

    def _all_words(self) -> tuple[str, ...]:
        from harness.metrics.support.word_lists import CHINESE, ENGLISH

        own = self.words or []
        if not isinstance(own, list) or not all(isinstance(word, str) for word in own):
            raise UserError("words must be a list of texts", field="words")
        return (
            *((*ENGLISH, *CHINESE) if self.shipped else ()),
            *own,
            *(read_words(Path(self.file)) if self.file else ()),
        )

    @property
    def _list(self) -> WordList:
        return _word_list(self._all_words())

    def find(self, texts: Sequence[str]) -> list[Hit]:
        """Every occurrence of every word, in the order of the texts."""
        return self._list.find(texts)

    @property
    def spec(self) -> MetricSpec:
        import hashlib

        digest = hashlib.sha256("\n".join(self._all_words()).encode()).hexdigest()[:12]
        return MetricSpec(
            "sensitive_words",
            "lower",
            version="3",
            stats=("hits",),
            options=(("words", digest),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        silent = silent_as(1.0, (0.0,))
        return score_responses(items, self._values, silent=silent, is_silent=says_no_word)

    def _values(self, pairs: list[Pair]) -> list[Evidence]:
        hits = [0] * len(pairs)
        for hit in self.find([response.text for _, response in pairs]):
            hits[hit.text] += 1
        return [Evidence(None, float(count > 0), stats=(float(count),)) for count in hits]


@lru_cache(maxsize=8)
def _word_list(words: tuple[str, ...]) -> WordList:
    return WordList.of(words)


def read_words(path: Path) -> list[str]:
    """The words of a file: UTF-8, one a line, # begins a comment. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the word list can't be read: {error}", file=path, hint="give a UTF-8 text file"
        ) from error
    stripped = (line.partition("#")[0].strip() for line in lines)
    return [line for line in stripped if line]
