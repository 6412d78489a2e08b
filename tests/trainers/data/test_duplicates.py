"""Near duplicates against all pairs, code that is not the same, and samples of a suite."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.data.duplicates import compared
from harness.data.shingles import run_length, shingles
from tests.harness.suite_builders import suite_yaml
from tests.trainers.data.pipelines import built, pipeline
from trainers.data.near import alike_pairs

LETTERS = "abcdefghijklmnopqrstuvwxyz"
HAN = "".join(chr(0x4E00 + 7 * n) for n in range(400))


def changed(items: list[str], known: list[str], count: int, chance: random.Random) -> list[str]:
    again = list(items)
    for place in chance.sample(range(len(items)), min(count, len(items))):
        again[place] = chance.choice(known)
    return again


def english(chance: random.Random) -> list[str]:
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 8))) for _ in range(900)]
    texts = []
    for _ in range(150):
        first = chance.choices(words, k=chance.randint(8, 60))
        texts += [first, changed(first, words, chance.randint(1, 1 + len(first) // 9), chance)]
    return [" ".join(text) for text in texts]


def chinese(chance: random.Random) -> list[str]:
    texts = []
    for _ in range(200):
        first = chance.choices(HAN, k=chance.randint(8, 26))
        texts += [first, changed(first, list(HAN), chance.randint(1, 2), chance)]
    return ["".join(text) for text in texts]


@pytest.mark.parametrize("made", [english, chinese])
@pytest.mark.parametrize("near", [0.5, 0.65, 0.8])
def test_near_duplicates_are_those_of_all_pairs(made, near: float) -> None:  # type: ignore[no-untyped-def]
    texts = made(random.Random(5))
    parts = [shingles(normal := compared(text), run_length(normal)) for text in texts]
    true = {
        (one, other)
        for one, other in combinations(range(len(texts)), 2)
        if len(parts[one] & parts[other]) / len(parts[one] | parts[other]) >= near
    }
    found = set(alike_pairs(texts, near))
    assert len(true) > 50
    assert found <= true
    assert len(found) >= 0.99 * len(true)


def test_code_that_differs_in_a_sign_is_no_exact_duplicate(tmp_path: Path) -> None:
    rows = [{"text": text} for text in ("a[0] + b", "a(0) - b", "a[0]  +\nb", "A[0] + b")]
    assert [placed.line for placed in built(tmp_path, ["exact"], rows=rows).rows] == [1, 2]
    cased = built(tmp_path, [{"exact": {"case": True}}], rows=rows)
    assert [placed.line for placed in cased.rows] == [1, 2, 4]


def test_the_first_of_near_duplicates_is_kept(tmp_path: Path) -> None:
    line = "The delivery comes on Monday before noon, and the driver rings twice"
    rows = [{"text": line}, {"text": "Something else entirely."}, {"text": f"{line}!"}]
    done = built(tmp_path, ["near"], rows=rows)
    assert [placed.line for placed in done.rows] == [1, 2]
    assert done.drops[0].detail == "rows.jsonl line 1, 1.00"


def test_no_sample_of_a_suite_is_left(tmp_path: Path) -> None:
    chance = random.Random(3)
    asked = [" ".join("".join(chance.choices(LETTERS, k=6)) for _ in range(9)) for _ in range(12)]
    held = tmp_path / "held.jsonl"
    held.write_text("\n".join(json.dumps({"id": str(n), "q": q}) for n, q in enumerate(asked)))
    task = {"data": "held.jsonl", "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    suite_yaml(tmp_path, name="s", tasks={"t": task})
    suite = next(path.name for path in tmp_path.glob("*.yaml"))
    clean = [{"text": f"A wholly different remark about the weather of day {n}."} for n in range(9)]
    leaks = [{"text": asked[3]}, {"text": f"First of all: {asked[7].upper()} Say it."}]
    talk = [{"role": "user", "content": asked[5]}, {"role": "assistant", "content": "Forty."}]
    rows = [*clean, *leaks, {"messages": talk}]
    done = built(tmp_path, [{"contamination": {"suites": [suite]}}], rows=rows)
    assert len(done.rows) == 9
    assert sorted(drop.detail.split()[-1] for drop in done.drops) == ["3", "5", "7"]
    with pytest.raises(UserError, match=r"nothere\.yaml[\s\S]*steps\.0"):
        pipeline(tmp_path, [{"contamination": {"suites": ["nothere.yaml"]}}], rows=rows)


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    from trainers.data.build import build
    from trainers.data.versions import write_version

    rows = [
        {"text": f"Parcel {n} of the {name} goes by the night train to the coast{end}"}
        for n, name in enumerate(("baker", "smith", "tailor", "miller", "cooper", "mason") * 6)
        for end in (".", " today.")
    ]
    made = pipeline(tmp_path, [], rows=rows, validation=0.3)
    version = write_version(made, build(made, None))
    sides = [{row["text"] for _, row in version.rows(part)} for part in ("train", "valid")]
    crossing = [
        (one, other)
        for one in sides[0]
        for other in sides[1]
        if len(shingles(compared(one)) & shingles(compared(other)))
        >= 0.8 * len(shingles(compared(one)) | shingles(compared(other)))
    ]
    assert crossing == []
