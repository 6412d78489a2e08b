"""The step that adds rows with other words in what is asked; each knows the row it was made of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.core.language import CJK
from harness.core.parts import require_part
from harness.core.types import Row
from trainers.data.rows import Done, Placed
from trainers.data.step import Context, Step
from trainers.data.synonyms import load_synonyms

Way = Literal["synonym", "insert", "delete", "swap", "typo", "pinyin"]
Edit = tuple[int, int, str]
"""From where to where, and what stands there then."""

_WORD = re.compile(rf"[{CJK}]+|[^\W\d_{CJK}]+(?:['’][^\W\d_{CJK}]+)?")
_LEFT_ALONE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\[[A-Z]+\]|\S*(?:://|@)\S*|\S*\d\S*", re.DOTALL
)
"""Code, masks, addresses and whatever has a digit: another word there is another question."""
_DECIDES = frozenset(
    (
        "no", "not", "none", "never", "nor", "neither", "without", "cannot", "can't", "couldn't",
        "isn't", "aren't", "wasn't", "don't", "doesn't", "didn't", "won't", "wouldn't", "shouldn't",
        "all", "only", "except", "unless", "before", "after", "more", "less",
    )
)  # fmt: skip
"""Words that turn an answer round: they stay."""
_DECIDES_CJK = re.compile("[不没無无非未别勿莫只全都前后前後多少]")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


class Augment(Step):
    """Adds `times` rows to each for each of the `ways`, with another word in `share` of the places
    of what is asked: a text, a prompt, what the user says. Answers stay, and so do code, numbers,
    addresses, and words that turn an answer round. A row that comes out as it was is not added.

    `synonyms` is a list of the user's own or a folder of WordNet's, relative to the pipeline;
    `synonym` and `insert` need it, `pinyin` the package pypinyin. What is made of a row depends on
    the row's id, the step and the pipeline's seed alone.
    """

    ways: tuple[Way, ...] = Field(("delete", "swap"), min_length=1)
    share: float = Field(default=0.1, gt=0, le=0.5)
    times: int = Field(default=1, ge=1, le=20)
    synonyms: str | None = None
    VERSION: ClassVar[int] = 1

    def reads(self, context: Context) -> Any:
        library = None
        if "pinyin" in self.ways:
            require_part("augment", "pypinyin")
            library = version("pypinyin")
        if self.synonyms is None:
            if needed := {"synonym", "insert"} & set(self.ways):
                raise UserError(
                    f"{' and '.join(sorted(needed))} need words to choose from",
                    field="augment.synonyms",
                    hint="name a list (a group of words a line), or a folder of WordNet's",
                )
            return library
        path = context.folder / self.synonyms
        load_synonyms(path)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [library, *(sha256_of_file(file) for file in files if file.is_file())]

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        known = {} if self.synonyms is None else load_synonyms(context.folder / self.synonyms)
        kept: list[Placed] = []
        for number, placed in enumerate(rows, start=1):
            kept += [placed, *self._made(name, placed, known, context.seed)]
            if number % 200 == 0:
                context.progress(number, len(rows))
        return kept, []

    def _made(
        self, name: str, placed: Placed, known: Mapping[str, Sequence[str]], seed: int
    ) -> list[Placed]:
        made: list[Placed] = []
        seen = [placed.row]
        for number, way in enumerate(way for way in self.ways for _ in range(self.times)):
            chance = random.Random(f"{seed}|{name}|{placed.id}|{number}")
            change = partial(self._changed, way=way, known=known, chance=chance)
            row = each_asked(placed.row, change)
            if row not in seen:
                seen.append(row)
                made.append(placed.child(row, name, number))
        return made

    def _changed(
        self, text: str, way: Way, known: Mapping[str, Sequence[str]], chance: random.Random
    ) -> str:
        places = words_of(text, known)
        if len(places) < 2:
            return text
        found = (_edit(text, places, at, way, known, chance) for at in range(len(places)))
        edits = [edit for edit in found if edit is not None]
        count = min(len(edits), max(1, round(self.share * len(places))))
        return applied(text, chance.sample(edits, count))


def each_asked(row: Row, change: Callable[[str], str]) -> Row:
    """The row with what is asked changed: a text, a prompt, and what the user says."""
    changed = dict(row)
    for name in ("text", "prompt"):
        if isinstance(row.get(name), str):
            changed[name] = change(row[name])
    for name in ("messages", "prompt"):
        if isinstance(row.get(name), list):
            changed[name] = [
                {**turn, "content": change(turn["content"])}
                if turn.get("role") == "user" and isinstance(turn.get("content"), str)
                else turn
                for turn in row[name]
            ]
    return changed


def words_of(text: str, known: Mapping[str, Sequence[str]]) -> list[tuple[int, int]]:
    """Where the words stand that may be changed. Of Chinese without spaces a word is the longest
    that is `known`, else a character.
    """
    closed = [match.span() for match in _LEFT_ALONE.finditer(text)]
    longest = max((len(word) for word in known if not word.isascii()), default=1)
    found: list[tuple[int, int]] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        if any(start < stop and begin < end for begin, stop in closed):
            continue
        if not re.match(f"[{CJK}]", match[0]):
            if match[0].lower().replace("’", "'") not in _DECIDES:
                found.append((start, end))
            continue
        while start < end:
            sizes = range(min(longest, end - start), 1, -1)
            size = next((n for n in sizes if text[start : start + n] in known), 1)
            if not _DECIDES_CJK.search(text[start : start + size]):
                found.append((start, start + size))
            start += size
    return found


def _edit(
    text: str,
    places: Sequence[tuple[int, int]],
    at: int,
    way: Way,
    known: Mapping[str, Sequence[str]],
    chance: random.Random,
) -> Edit | None:
    """One change of a way at a place; None where there is none."""
    start, end = places[at]
    word = text[start:end]
    if way in ("synonym", "insert"):
        others = known.get(word.lower())
        if not others:
            return None
        other = _as_written(word, chance.choice(others))
        if way == "synonym":
            return start, end, other
        # Somewhere else in the text, as EDA has it: beside another word.
        _, beside = places[chance.randrange(len(places))]
        return beside, beside, other if re.match(f"[{CJK}]", other) else f" {other.lower()}"
    if way == "delete":
        # With the space before it, or behind it at the beginning.
        if start and text[start - 1] == " ":
            return start - 1, end, ""
        return start, end + (text[end : end + 1] == " "), ""
    if way == "swap":
        if at + 1 == len(places):
            return None
        begin, stop = places[at + 1]
        return start, stop, text[begin:stop] + text[end:begin] + word
    if way == "typo":
        return start, end, _mistyped(word, chance)
    return (start, end, said) if (said := _pinyin(word)) else None


def applied(text: str, edits: Sequence[Edit]) -> str:
    """The text with these changes; of two that overlap the first one is made."""
    end = 0
    parts = []
    for start, stop, instead in sorted(edits):
        if start >= end:
            parts += [text[end:start], instead]
            end = stop
    return "".join([*parts, text[end:]])


def _as_written(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other


def _mistyped(word: str, chance: random.Random) -> str:
    """One slip of a finger: a neighbour's key, a letter twice, one too few, or two in each other's
    place. Of Chinese two characters.
    """
    at = chance.randrange(len(word))
    letter = word[at]
    row = next((keys for keys in _KEYS if letter.lower() in keys), "")
    kind = chance.choice(("beside", "twice", "without", "turned"))
    if kind == "beside" and row:
        near = row.index(letter.lower()) + chance.choice((-1, 1))
        key = row[near % len(row)]
        return word[:at] + (key.upper() if letter.isupper() else key) + word[at + 1 :]
    if kind == "twice" or len(word) == 1:
        return word[: at + 1] + word[at:]
    if kind == "turned" and at + 1 < len(word):
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    return word[:at] + word[at + 1 :]


@lru_cache(maxsize=4096)
def _pinyin(word: str) -> str:
    """How a Chinese word sounds, in Latin letters without tones; empty for any other."""
    if not re.match(f"[{CJK}]", word):
        return ""
    from pypinyin import lazy_pinyin

    said = "".join(lazy_pinyin(word))
    return said if said.isascii() else ""
