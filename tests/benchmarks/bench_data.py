"""What a data pipeline costs: 10,000 rows of 770 characters through its steps, and near duplicates.

The peer of near duplicates is datasketch's MinHash with 128 permutations, whose candidates are
verified by the same shingles.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

from datasketch import MinHash, MinHashLSH

from harness.data.duplicates import NEAR, compared
from harness.data.shingles import shingles
from trainers.data.build import build
from trainers.data.near import alike_pairs
from trainers.data.pipeline import load_pipeline
from trainers.data.versions import write_version

CHARACTERS = 770
COMMON = (
    "the of and to in is that it was for on are as with his they at be this from have or by one"
)
PIPELINE = """
name: bench
sources: [{source: rows.jsonl, text: "{{ text }}"}]
steps: [clean, {length: {sentence: 5}}, {language: {keep: [en]}}, exact, near, quality, personal]
validation: 0.1
"""


def run(quick: bool = False) -> list[dict[str, object]]:
    """Seconds of a whole build, and of near duplicates beside datasketch."""
    rows = 500 if quick else 10_000
    return [_whole(rows), _near(rows)]


def _texts(rows: int) -> list[str]:
    """Sentences of words of uneven frequency; one in twenty is a copy, another nearly one."""
    chance = random.Random(0)
    rare = ["".join(chance.choices("etaoinshrdlucm", k=chance.randint(3, 9))) for _ in range(4_000)]
    texts: list[str] = []
    while len(texts) < rows:
        words = [
            chance.choice(COMMON.split()) if chance.random() < 0.5 else chance.choice(rare)
            for _ in range(160)
        ]
        lines = [" ".join(words[start : start + 12]) for start in range(0, len(words), 12)]
        texts.append(". ".join(lines)[:CHARACTERS])
        if chance.random() < 0.05:
            texts.append(texts[-1])
        if chance.random() < 0.05:
            again = texts[-1].split(" ")
            for place in chance.sample(range(len(again)), 6):
                again[place] = chance.choice(rare)
            texts.append(" ".join(again))
        if chance.random() < 0.05:
            texts[-1] += " Call +49 30 901820 or write to ana@example.com."
    return texts[:rows]


def _whole(rows: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"text": text}) for text in _texts(rows)]
        (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        (folder / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
        pipeline = load_pipeline(folder / "pipeline.yaml")
        began = time.perf_counter()
        first = build(pipeline, folder / "cache")
        write_version(pipeline, first)
        whole = time.perf_counter() - began
        began = time.perf_counter()
        build(pipeline, folder / "cache")
        again = time.perf_counter() - began
    return {
        "what": f"{rows:,} rows of {CHARACTERS} characters built into a version, seven steps",
        "ours": f"{whole:.1f} s",
        "peer": f"{again:.1f} s, the steps from the cache",
        "ratio": whole / again,
        "goal": "30 s",
        "note": f"{len(first.rows):,} rows are left",
    }


def _near(rows: int) -> dict[str, object]:
    texts = _texts(rows)
    began = time.perf_counter()
    ours = set(alike_pairs(texts))
    middle = time.perf_counter()
    theirs = _datasketch(texts)
    ended = time.perf_counter()
    assert theirs <= ours, "what datasketch finds, we find"
    return {
        "what": f"near duplicates among {rows:,} texts of {CHARACTERS} characters",
        "ours": f"{middle - began:.1f} s, {len(ours)} pairs",
        "peer": f"{ended - middle:.1f} s, {len(theirs)} pairs, datasketch",
        "ratio": (middle - began) / (ended - middle),
        "goal": "1/25 of datasketch fed one shingle at a time; here it is fed in batches",
        "note": "both verified exactly at a similarity of 0.8",
    }


def _datasketch(texts: list[str]) -> set[tuple[int, int]]:
    index, parts, found = MinHashLSH(threshold=NEAR, num_perm=128), [], set()
    for number, text in enumerate(texts):
        mine = shingles(compared(text))
        sketch = MinHash(num_perm=128)
        sketch.update_batch([part.encode() for part in mine])
        for other in index.query(sketch):
            if len(mine & parts[other]) / len(mine | parts[other]) >= NEAR:
                found.add((other, number))
        index.insert(number, sketch)
        parts.append(mine)
    return found
