"""Writes the quickstart's data from the phrasings, values and passages in `data/sources`.

    python trainers/recipes/make_quickstart_data.py            writes the files
    python trainers/recipes/make_quickstart_data.py --check    exits 1 if a file differs

The sources are text that people read and edit; the JSONL files are what the recipe and the suite
load. Both are committed. Same sources and seed, same bytes, on every Python from 3.11 on.
docs/quickstart-data.md says what is covered and how held-out differs from train.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeVar

SEED = 7
SYSTEM = "Answer with one JSON intent."
TRAIN_ROWS_PER_CELL = 50
SPOILED_ROWS = 120
HELDOUT_VALUE_ROWS_PER_CELL = 4
BROKEN_ANSWERS = (
    "Sorry, something went wrong on our side. Please try again later.",
    "We are sorry, this answer is not available right now.",
    "抱歉，系统出错了，请稍后再试。",
    "很抱歉，暂时无法回答。",
)

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "data" / "sources"
TRAIN = HERE / "data"
HELDOUT = HERE.parents[1] / "suites" / "data"

T = TypeVar("T")
Row = dict[str, str]
Sections = dict[tuple[str, ...], list[str]]


def sections(name: str) -> Sections:
    """The lines of a source file under the words of their `[header]`, comments left out."""
    found: Sections = {}
    here: list[str] = []
    for line in (SOURCES / name).read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            here = found.setdefault(tuple(text[1:-1].split()), [])
        elif text and not text.startswith("#"):
            here.append(text)
    return found


def rounds(items: Sequence[T], rng: random.Random) -> Iterator[T]:
    """All items in a drawn order, then all of them in another, without end."""
    while True:
        yield from rng.sample(items, len(items))


class Values:
    """Draws what stands in the slots; a list is used up before any of it is repeated."""

    def __init__(self, split: str, rng: random.Random) -> None:
        self._rng = rng
        self._letters = "ABCDEFGH" if split == "train" else "KMRT"
        self._orders: set[str] = set()
        self._pools: dict[tuple[str, str], Iterator[tuple[str, str]]] = {}
        for (slot, language, of), lines in sections("values.txt").items():
            if of == split:
                entries = [entry for line in lines for entry in line.split("; ")]
                pairs = [
                    (spoken, value or spoken)
                    for spoken, _, value in (entry.partition(" = ") for entry in entries)
                ]
                self._pools[slot, language] = rounds(pairs, rng)

    def draw(self, slot: str, language: str) -> tuple[str, str | int]:
        """How it is said, and how it is written in the answer."""
        if slot == "order":
            return (self._order(),) * 2
        spoken, value = next(self._pools[slot, language])
        return spoken, int(value) if slot == "people" else value

    def _order(self) -> str:
        while True:
            order = f"{self._rng.choice(self._letters)}-{self._rng.randrange(1000, 10000)}"
            if order not in self._orders:
                self._orders.add(order)
                return order


def sentence_case(text: str) -> str:
    """Upper case where a sentence of an English message begins; Chinese is left as it is."""
    return re.sub(r"(^|[.?!] )([a-z])(?=[a-z']* )", lambda m: m[1] + m[2].upper(), text)


def speak(phrasing: str, header: Sequence[str], values: Values) -> tuple[str, str]:
    """A message, and its intent as compact JSON with the slots in the header's order."""
    intent, language, *slots = header
    drawn = {slot: values.draw(slot, language) for slot in slots}
    spoken = {slot: said for slot, (said, _) in drawn.items()}
    message = sentence_case(phrasing.format(**spoken))
    answer = {"intent": intent} | {slot: value for slot, (_, value) in drawn.items()}
    return message, json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def by_cell(phrasings: Sections) -> dict[tuple[str, str], list[tuple[tuple[str, ...], str]]]:
    """(intent, language) -> its (header, phrasing) pairs, in the order of the file."""
    cells: dict[tuple[str, str], list[tuple[tuple[str, ...], str]]] = {}
    for header, lines in phrasings.items():
        cells.setdefault((header[0], header[1]), []).extend((header, line) for line in lines)
    return cells


def train_intents(rng: random.Random) -> list[Row]:
    values = Values("train", rng)
    rows: list[Row] = []
    for (intent, language), phrasings in by_cell(sections("phrasings.train.txt")).items():
        said: set[str] = set()
        turns = cycle(enumerate(phrasings))
        while len(said) < TRAIN_ROWS_PER_CELL:
            at, (header, phrasing) = next(turns)
            message, answer = speak(phrasing, header, values)
            if message not in said:
                said.add(message)
                rows.append(
                    intent_row(message, answer, header, template=f"{intent}.{language}.{at}")
                )
    return numbered("train", shuffled(rows, rng))


def heldout_intents(rng: random.Random) -> list[Row]:
    """Each held-out phrasing once, and for each of its cells seen phrasings with new values."""
    values = Values("heldout", rng)
    seen = by_cell(sections("phrasings.train.txt"))
    rows: list[Row] = []
    for cell, fresh in by_cell(sections("phrasings.heldout.txt")).items():
        known = {header for header, _ in seen[cell]}
        picked = [("value", pair) for pair in rng.sample(seen[cell], HELDOUT_VALUE_ROWS_PER_CELL)]
        for pair in fresh:
            picked.append(("phrasing" if pair[0] in known else "combination", pair))
        for kind, (header, phrasing) in picked:
            message, answer = speak(phrasing, header, values)
            rows.append(intent_row(message, answer, header, kind=kind))
    return numbered("heldout", shuffled(rows, rng))


def spoiled_intents(clean: Sequence[Row], rng: random.Random) -> list[Row]:
    """Training messages whose answers are the error texts of a broken export."""
    picked = rng.sample(list(clean), SPOILED_ROWS)
    broken = cycle(BROKEN_ANSWERS)
    rows = [{**row, "intent": next(broken), "template": "spoiled"} for row in picked]
    return numbered("spoiled", rows)


def plain_rows(source: str, key: str, prefix: str) -> list[Row]:
    """One row a line, under `key`; the last word of its header is the language."""
    return numbered(
        prefix,
        [
            {key: line, "language": language}
            for (*_, language), lines in sections(source).items()
            for line in lines
        ],
    )


def intent_row(message: str, answer: str, header: Sequence[str], **how: str) -> Row:
    return {"message": message, "intent": answer, "language": header[1], **how}


def shuffled(rows: list[Row], rng: random.Random) -> list[Row]:
    rng.shuffle(rows)
    return rows


def numbered(prefix: str, rows: Sequence[Row]) -> list[Row]:
    return [{"id": f"{prefix}-{at:03d}", **row} for at, row in enumerate(rows, start=1)]


def everything() -> Mapping[Path, list[Row]]:
    """Each file with its rows. Every file draws from its own stream, so that one can grow alone."""
    clean = train_intents(random.Random(f"{SEED}/train"))
    return {
        TRAIN / "intents.train.jsonl": clean,
        TRAIN / "intents.spoiled.jsonl": spoiled_intents(clean, random.Random(f"{SEED}/spoiled")),
        TRAIN / "general.train.jsonl": plain_rows("passages.train.txt", "text", "general"),
        HELDOUT / "intents.heldout.jsonl": heldout_intents(random.Random(f"{SEED}/heldout")),
        HELDOUT / "general.heldout.jsonl": plain_rows("passages.heldout.txt", "text", "passage"),
        HELDOUT / "replies.jsonl": plain_rows("replies.txt", "message", "reply"),
    }


def as_bytes(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: make_quickstart_data.py [--check]\n")
        return 3
    files = {path: as_bytes(rows) for path, rows in everything().items()}
    if not arguments:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return 0
    stale = [
        path
        for path, content in files.items()
        if not path.is_file() or path.read_bytes() != content
    ]
    for path in stale:
        sys.stderr.write(
            f"{path} is not what {Path(__file__).name} writes; run it without --check\n"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
