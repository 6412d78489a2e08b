"""The step that keeps rows of prose by published rules, restated for Chinese as well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from harness.core.language import CJK
from trainers.data.length import words_in
from trainers.data.rows import Done, Placed, Why, said
from trainers.data.step import Context, Step, each_row

_HAN = re.compile(f"[{CJK}]")
_SPACED = re.compile(r"\S+")
_BULLET = re.compile(r"\s*[-*•●▪‣◦]\s")
_STOPS = (
    ".",
    "!",
    "?",
    '"',
    "'",
    "”",
    "’",
    "。",
    "！",
    "？",
    "…",
    "」",
    "』",
    "：",
    ":",
    ")",
    "）",
)
_COMMON = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_COMMON_ZH = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之"
)


class Quality(Step):
    """Rows that read as prose: rules that Gopher (Rae et al. 2021) and FineWeb (Penedo et al. 2024)
    publish, with a character of Chinese as a word. They are meant for pages of the web: code,
    tables and short answers fail them.
    """

    rules: Literal["gopher", "fineweb", "both"] = "both"

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            text = "\n".join(said(placed.row))
            faults = _gopher(text) if self.rules != "fineweb" else iter(())
            found = next(faults, None)
            if found is None and self.rules != "gopher":
                found = next(_fineweb(text), None)
            return found or placed

        return each_row(name, rows, context, look)


def _gopher(text: str) -> Iterator[Why]:
    """Gopher's quality and repetition rules, but for its least number of words."""
    words, total = _SPACED.findall(_HAN.sub(" ", text)), max(1, words_in(text))
    han = _HAN.findall(text)
    lines = [line for line in text.split("\n") if line.strip()]
    if words and not han:
        mean = sum(map(len, words)) / len(words)
        if not 3 <= mean <= 10:
            yield Why("words of unusual length", f"mean {mean:.1f}")
    if (signs := text.count("#") + text.count("…") + text.count("...")) > 0.1 * total:
        yield Why("too many # or …", f"{signs / total:.0%} of the words")
    if sum(bool(_BULLET.match(line)) for line in lines) > 0.9 * len(lines):
        yield Why("nearly all lines are bullets")
    if (cut := sum(line.rstrip().endswith(("…", "...")) for line in lines)) > 0.3 * len(lines):
        yield Why("lines that break off", f"{cut} of {len(lines)}")
    lettered = len(han) + sum(any(map(str.isalpha, word)) for word in words)
    if lettered < 0.8 * (len(han) + len(words)):
        yield Why("words without a letter", f"{1 - lettered / (len(han) + len(words)):.0%}")
    if total >= 50 and not _reads(words, han):
        yield Why("none of a language's commonest words")
    if (share := repeated(lines)) > 0.3:
        yield Why("repeated lines", f"{share:.0%} of the characters")


def _reads(words: Sequence[str], han: Sequence[str]) -> bool:
    if len(han) > len(words):
        return len({sign for sign in han if sign in _COMMON_ZH}) >= 2
    # The list is English: of other languages it would say nothing.
    plain = [word.lower().strip(".,;:!?\"'()") for word in words]
    return not all(word.isascii() for word in words) or len(_COMMON.intersection(plain)) >= 2


def _fineweb(text: str) -> Iterator[Why]:
    """FineWeb's own three rules, for texts of ten lines and more."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) < 10:
        return
    ended = sum(line.endswith(_STOPS) for line in lines)
    if ended <= 0.12 * len(lines):
        yield Why("lines that don't end as sentences do", f"{ended} of {len(lines)} do")
    if (short := sum(len(line) < 30 for line in lines)) >= 0.67 * len(lines):
        yield Why("nearly all lines are short", f"{short} of {len(lines)}")
    if (share := repeated(lines)) >= 0.1:
        yield Why("repeated lines", f"{share:.0%} of the characters")


def repeated(lines: Sequence[str]) -> float:
    """The share of the characters that stand in lines that have been there before, 0 to 1."""
    counts = Counter(lines)
    total = sum(map(len, lines))
    return sum(len(line) * (n - 1) for line, n in counts.items()) / total if total else 0.0
