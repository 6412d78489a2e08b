"""A seeded corpus with faults planted in it: every one is found, and by the right step."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness.suite_builders import suite_yaml
from tests.trainers.data.pipelines import pipeline
from trainers.data.build import build
from trainers.data.versions import write_version

WORDS = re.findall(
    r"\S+",
    "river market winter letter garden window farmer bridge morning kitchen harbour evening "
    "village teacher journey weather mountain station library festival",
)
HAN = "春夏秋冬山水风云花鸟鱼虫东西南北天地人家高低远近早晚新旧长短大小轻重快慢"
PLANTED = {"exact": 12, "near": 9, "contamination": 7, "personal": 8, "language": 5, "read": 4}


def sentence(chance: random.Random) -> str:
    one, two, three, four, five = chance.sample(WORDS, 5)
    number = chance.randint(100, 999)
    return (
        f"In the {one} of the year {number} there was a {two} that stood beside the {three}, and "
        f"nobody from the {four} knew why it had been built with {number} steps by the {five}."
    )


def corpus(chance: random.Random, held: list[str]) -> list[str]:
    """Lines of JSONL: good English and Chinese ones, and PLANTED of each fault."""
    good = list(dict.fromkeys(sentence(chance) for _ in range(90)))
    good += ["".join(chance.sample(HAN, 30)) + "。" for _ in range(60)]
    some = iter(chance.sample(good[:90], PLANTED["exact"] + PLANTED["near"]))
    texts = [*good]
    texts += [f" {next(some).upper()}\r\n" for _ in range(PLANTED["exact"])]
    texts += [next(some).replace("nobody", "no one") for _ in range(PLANTED["near"])]
    texts += chance.sample(held, PLANTED["contamination"])
    texts += [
        f"{''.join(chance.sample(HAN, 25))}，请写信到 user{n}@example.com。"
        for n in range(PLANTED["personal"])
    ]
    texts += [
        f"Вчера вечером номер {n} пришёл домой очень поздно, и никто его не ждал."
        for n in range(PLANTED["language"])
    ]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    return [*lines, *['{"text": "cut o'] * PLANTED["read"]]


def written(folder: Path) -> tuple[Any, Counter[str]]:
    folder.mkdir()
    chance = random.Random(11)
    held = ["".join(chance.sample(HAN, 24)) + "？" for _ in range(20)]
    (folder / "held.jsonl").write_text("\n".join(json.dumps({"q": text}) for text in held))
    task = {"data": "held.jsonl", "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    suite_yaml(folder, name="s", tasks={"t": task})
    suite = next(path.name for path in folder.glob("*.yaml"))
    steps: list[Any] = [
        *("clean", {"language": {"keep": ["en", "zh"]}}, "exact", {"near": {"alike": 0.9}}),
        *({"contamination": {"suites": [suite]}}, {"personal": {"found": "drop"}}),
    ]
    lines = corpus(chance, held)
    made = pipeline(folder, steps, source={"source": "corpus.jsonl"}, validation=0.2)
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = build(made, folder / "cache")
    return write_version(made, done), Counter(drop.step for drop in done.drops)


def test_what_was_planted_is_found_and_nothing_else(tmp_path: Path) -> None:
    version, dropped = written(tmp_path / "one")
    assert dropped == PLANTED
    assert sum(version.meta["rows"].values()) == 150
    again, _ = written(tmp_path / "two")
    for name in ("train.jsonl", "valid.jsonl", "drops.jsonl", "meta.json"):
        assert (version.folder / name).read_bytes() == (again.folder / name).read_bytes()
