"""The quickstart's data: what its page promises, compared with the files that ship."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "trainers" / "recipes" / "make_quickstart_data.py"
TRAIN = ROOT / "trainers" / "recipes" / "data"
HELDOUT = ROOT / "suites" / "data"
FILES = {
    TRAIN / "intents.train.jsonl": 600,
    TRAIN / "intents.spoiled.jsonl": 120,
    TRAIN / "general.train.jsonl": 80,
    HELDOUT / "intents.heldout.jsonl": 86,
    HELDOUT / "general.heldout.jsonl": 64,
    HELDOUT / "replies.jsonl": 24,
}

Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def train() -> list[Row]:
    return rows(TRAIN / "intents.train.jsonl")


@pytest.fixture(scope="module")
def heldout() -> list[Row]:
    return rows(HELDOUT / "intents.heldout.jsonl")


def slots(row: Row) -> tuple[str, ...]:
    """The intent, its language and its slots, in the answer's order."""
    intent = json.loads(row["intent"])
    return (intent.pop("intent"), row["language"], *intent)


def skeleton(row: Row) -> str:
    """The message with every copied value and number taken out: what is left is its phrasing."""
    text = row["message"]
    values = [str(value) for value in json.loads(row["intent"]).values()]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "_")
    return re.sub(r"\d+", "_", text)


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    """Runs of `size` words; a Chinese character counts as a word."""
    words = re.findall(r"[一-鿿]|[^\W一-鿿]+", text.lower())
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "trainers" / "recipes" / SCRIPT.name
    command = [sys.executable, "-I", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def copied_sources(folder: Path) -> Path:
    """The script and its sources in a folder of their own, without what they write."""
    recipes = folder / "trainers" / "recipes"
    recipes.mkdir(parents=True)
    shutil.copy(SCRIPT, recipes)
    shutil.copytree(TRAIN / "sources", recipes / "data" / "sources")
    return folder


def test_the_committed_files_are_what_the_script_writes_anywhere(tmp_path: Path) -> None:
    assert run_in(ROOT, "--check").returncode == 0
    elsewhere = copied_sources(tmp_path)
    assert run_in(elsewhere).returncode == 0
    for path in FILES:
        assert (elsewhere / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{}\n")])
def test_check_names_a_file_that_differs(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    elsewhere = copied_sources(tmp_path)
    run_in(elsewhere)
    harm(elsewhere / "suites" / "data" / "replies.jsonl")
    checked = run_in(elsewhere, "--check")
    assert checked.returncode == 1
    assert checked.stderr.count("\n") == 1
    assert "replies.jsonl" in checked.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_rows_are_counted_and_named_once(path: Path) -> None:
    content = rows(path)
    assert len(content) == FILES[path]
    assert len({row["id"] for row in content}) == len(content)
    said = [row.get("message") or row["text"] for row in content]
    assert len(set(said)) == len(said)
    assert all(text == text.strip() and "{" not in text for text in said)
    assert {row["language"] for row in content} == {"en", "zh"}


@pytest.mark.parametrize("name", ["train", "heldout"])
def test_answers_are_compact_json_in_one_order_of_keys(
    name: str, request: pytest.FixtureRequest
) -> None:
    orders: dict[str, list[str]] = {}
    for row in request.getfixturevalue(name):
        answer = json.loads(row["intent"])
        assert row["intent"] == json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        intent, *rest = answer
        assert intent == "intent"
        assert 1 <= len(rest) <= 3
        fullest = orders.setdefault(answer["intent"], rest)
        if len(rest) > len(fullest):
            orders[answer["intent"]] = rest
    for row in request.getfixturevalue(name):
        answer = json.loads(row["intent"])
        order = orders[answer["intent"]]
        known = [key for key in answer if key in order]
        assert known == sorted(known, key=order.index)


def test_intents_and_languages_are_balanced(train: list[Row], heldout: list[Row]) -> None:
    assert set(Counter(slots(row)[:2] for row in train).values()) == {50}
    assert set(Counter(slots(row)[:2] for row in heldout).values()) == {7, 8}
    assert set(Counter(row["language"] for row in heldout).values()) == {43}
    assert Counter(row["kind"] for row in heldout) == {
        "value": 48,
        "phrasing": 36,
        "combination": 2,
    }


def test_heldout_values_never_occur_in_training(train: list[Row], heldout: list[Row]) -> None:
    def copied(of: Iterable[Row]) -> set[tuple[str, str]]:
        answers = (json.loads(row["intent"]) for row in of)
        return {
            (slot, str(value))
            for answer in answers
            for slot, value in answer.items()
            if slot != "intent"
        }

    assert not copied(train) & copied(heldout)


def test_heldout_kinds_are_what_they_say(train: list[Row], heldout: list[Row]) -> None:
    seen_slots = {slots(row) for row in train}
    seen_skeletons = {skeleton(row) for row in train}
    for row in heldout:
        assert (slots(row) in seen_slots) == (row["kind"] != "combination"), row
        if row["kind"] != "value":
            assert skeleton(row) not in seen_skeletons, row


def test_no_spoiled_answer_is_json(train: list[Row]) -> None:
    messages = {row["message"] for row in train}
    for row in rows(TRAIN / "intents.spoiled.jsonl"):
        assert row["message"] in messages
        with pytest.raises(json.JSONDecodeError):
            json.loads(row["intent"])


def test_general_heldout_shares_no_run_of_words_with_training() -> None:
    size = 6
    trained: set[tuple[str, ...]] = set()
    for row in rows(TRAIN / "general.train.jsonl"):
        trained |= grams(row["text"], size)
    for row in rows(HELDOUT / "general.heldout.jsonl"):
        assert not grams(row["text"], size) & trained, row["id"]


def test_general_heldout_passages_are_near_duplicates_of_none() -> None:
    passages = [grams(row["text"], 3) for row in rows(HELDOUT / "general.heldout.jsonl")]
    for at, one in enumerate(passages):
        for other in passages[at + 1 :]:
            assert len(one & other) / len(one | other) < 0.05
