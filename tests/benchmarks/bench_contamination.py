"""What it costs to look for a suite's samples in training data: rows against 1,000 samples.

The peer counts what each row shares with each sample, through an index of all shingles, and
finds the same. Rows are of 900 characters, of words as unevenly common as those of a language.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from harness.data.duplicates import NEAR, Index, Passage, compared
from harness.data.shingles import run_length, shingles

SAMPLES = 1_000
LETTERS = {
    "English": ("etaoinshrdlucmfwypvbgk", 9, " ", 25, 140),
    "Chinese": ("".join(map(chr, range(0x4E00, 0x4E00 + 1500))), 3, "", 15, 450),
}
"""Letters, the longest word, what stands between words, words of a sample and of a row."""


def run(quick: bool = False) -> list[dict[str, object]]:
    """CPU time of a row, English and Chinese; one sample of a hundred is planted in a row."""
    return [_cost(language, rows=200 if quick else 2_000) for language in LETTERS]


def _cost(language: str, rows: int) -> dict[str, object]:
    samples, texts = _texts(language, rows)
    index = Index(Passage("task", str(i), (text,)) for i, text in enumerate(samples))
    peer = Everything(samples)
    next(iter(index.like_each(samples[:1])))
    ours, theirs = [], []
    for start in range(0, rows, rows // 5):
        part = texts[start : start + rows // 5]
        began = time.process_time()
        found = {(i, int(passage.name)) for i, passage, _, _ in index.like_each(part, threads=1)}
        middle = time.process_time()
        wanted = {(i, number) for i, text in enumerate(part) for number in peer.like(text)}
        ended = time.process_time()
        assert found == wanted, "both find the same"
        ours.append((middle - began) / len(part))
        theirs.append((ended - middle) / len(part))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "what": f"a row of 900 characters looked through for {SAMPLES:,} samples, {language}",
        "ours": f"{mine * 1e6:.0f} µs of one core",
        "peer": f"{other * 1e6:.0f} µs, an index of all shingles",
        "ratio": mine / other,
        "goal": "60 µs (a million rows in 30 s on two cores)",
        "note": f"{rows:,} rows; both find the same",
    }


def _texts(language: str, rows: int) -> tuple[list[str], list[str]]:
    rng = random.Random(0)
    letters, longest, between, short, long = LETTERS[language]
    words = ["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(8_000)]
    common = [1 / (rank + 1) for rank in range(len(words))]

    def text(count: int) -> str:
        return between.join(rng.choices(words, common, k=count))

    samples = [text(short) for _ in range(SAMPLES)]
    texts = [text(long) for _ in range(rows)]
    for number in range(0, rows, 100):
        texts[number] = f"{text(long // 2)} {samples[number % SAMPLES]} {text(long // 2)}"
    return samples, texts


class Everything:
    """Counts what a text shares with each sample of one language."""

    def __init__(self, samples: Sequence[str]) -> None:
        normal = [compared(text) for text in samples]
        self.run = run_length(normal[0])
        self.sizes = [len(shingles(text, self.run)) for text in normal]
        self.by_shingle: dict[str, list[int]] = defaultdict(list)
        for number, text in enumerate(normal):
            for part in shingles(text, self.run):
                self.by_shingle[part].append(number)

    def like(self, text: str) -> list[int]:
        parts = shingles(compared(text), self.run)
        shared = Counter(number for part in parts for number in self.by_shingle.get(part, ()))
        return [number for number, common in shared.items() if common / self.sizes[number] >= NEAR]
