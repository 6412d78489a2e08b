"""Words that may stand for one another: from a list of the user's own, or from WordNet's files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.core.errors import UserError
from harness.core.text_file import read_text

_PARTS = ("noun", "verb", "adj", "adv")


def load_synonyms(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Word -> what may stand for it, in small letters. `path` is a text file with a group of words
    a line, between commas or tabs, or a folder with WordNet's `index.noun`, `data.noun` and so on
    (Debian: `wordnet-base`, /usr/share/wordnet; Princeton's license). Of a word with several
    meanings there the commonest counts. Raises UserError.
    """
    if path.is_dir():
        return _wordnet(path)
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path, what="list of synonyms").split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = [word.strip().lower() for word in re.split(r"[,\t，、]", line) if word.strip()]
        if len(words) < 2:
            raise UserError(
                "a line has two words or more",
                file=path,
                line=number,
                hint="write them between commas or tabs: big, large",
            )
        for word in words:
            known = found.setdefault(word, [])
            known += [other for other in words if other != word and other not in known]
    if not found:
        raise UserError("this list of synonyms is empty", file=path)
    return {word: tuple(others) for word, others in found.items()}


def _wordnet(folder: Path) -> Mapping[str, tuple[str, ...]]:
    if not (folder / "index.noun").is_file():
        raise UserError(
            "this folder has no WordNet",
            file=folder / "index.noun",
            hint="Debian's package wordnet-base brings it, in /usr/share/wordnet",
        )
    senses: dict[str, tuple[int, str, str]] = {}
    for part in _PARTS:
        for fields in _lines(folder / f"index.{part}"):
            pointers = int(fields[3])
            tagged, first = int(fields[5 + pointers]), fields[6 + pointers]
            if fields[0] not in senses or tagged > senses[fields[0]][0]:
                senses[fields[0]] = (tagged, part, first)
    sets = {
        (part, fields[0]): [_word(fields[4 + 2 * n]) for n in range(int(fields[3], 16))]
        for part in _PARTS
        for fields in _lines(folder / f"data.{part}")
    }
    found = {}
    for lemma, (_, part, offset) in senses.items():
        others = [
            word for word in sets.get((part, offset), ()) if word != lemma and "_" not in word
        ]
        if others and "_" not in lemma:
            found[lemma] = tuple(others)
    return found


def _lines(path: Path) -> Iterator[list[str]]:
    """The fields of each line; a license stands above them, indented."""
    for line in read_text(path, what="file of WordNet").split("\n"):
        if line and not line.startswith(" "):
            yield line.split(" ")


def _word(written: str) -> str:
    """`big(a)` says where an adjective stands: not part of the word."""
    return written.partition("(")[0].lower()
