"""Augmented rows: other words in what is asked, other names in all of it, the same every time."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from tests.trainers.data.pipelines import built, pipeline
from trainers.data.augment import Augment, applied, each_asked, words_of
from trainers.data.build import build
from trainers.data.entities import Entities, another_number
from trainers.data.rows import Placed
from trainers.data.step import Context
from trainers.data.synonyms import load_synonyms
from trainers.data.versions import write_version

ASKED = "Please book a quiet table for 2 people tonight, and do not take `max()` or ana@x.org."


def row(number: int, asked: str = ASKED, answer: str = "It is booked.") -> Placed:
    messages = [{"role": "system", "content": asked}, {"role": "user", "content": asked}]
    return Placed("f", number, f"r{number}", {"messages": messages, "completion": answer})


def made(step: Augment | Entities, rows: list[Placed], folder: Path, seed: int = 0) -> list[Placed]:
    kept, drops = step.run("augment", rows, Context(folder, seed))
    assert not drops
    assert [placed for placed in kept if not placed.parent] == rows
    return [placed for placed in kept if placed.parent]


def asked(placed: Placed) -> str:
    return str(placed.row["messages"][1]["content"])


def test_what_is_made_of_a_row_depends_on_no_other_row_and_on_no_order(tmp_path: Path) -> None:
    step = Augment(ways=("delete", "swap", "typo"), times=2, share=0.2)
    rows = [row(number) for number in range(5)]
    forward, backward = made(step, rows, tmp_path), made(step, rows[::-1], tmp_path)
    assert sorted(forward, key=lambda p: p.id) == sorted(backward, key=lambda p: p.id)
    assert made(step, rows[2:3], tmp_path) == [p for p in forward if p.parent == "r2"]
    assert made(step, rows, tmp_path, seed=1) != forward
    assert len({p.id for p in forward}) == len(forward) > 20


def test_the_answer_and_what_decides_it_stay(tmp_path: Path) -> None:
    step = Augment(ways=("delete", "swap", "typo"), times=20, share=0.5)
    for placed in made(step, [row(1)], tmp_path):
        assert asked(placed) != ASKED
        assert placed.row["completion"] == "It is booked."
        assert placed.row["messages"][0]["content"] == ASKED
        assert all(kept in asked(placed) for kept in ("2", "not", "`max()`", "ana@x.org"))
    chinese = row(2, "请不要预订今天晚上的两人桌")
    for placed in made(step, [chinese], tmp_path):
        assert "不" in asked(placed)


def test_synonyms_are_the_users_and_keep_how_a_word_was_written(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(
        "# mine\nquiet, calm\n桌, 台\n今天，今日\n", encoding="utf-8"
    )
    step = Augment(ways=("synonym",), share=0.5, synonyms="words.txt")
    (one,) = made(step, [row(1, "Quiet, please.")], tmp_path)
    assert asked(one) == "Calm, please."
    (two,) = made(step, [row(2, "今天的桌")], tmp_path)
    assert asked(two) in ("今日的台", "今日的桌", "今天的台")
    (three,) = made(
        Augment(ways=("insert",), synonyms="words.txt"), [row(3, "a quiet table")], tmp_path
    )
    assert sorted(asked(three).split()) == ["a", "calm", "quiet", "table"]


def test_wordnet_is_read_as_debian_has_it(tmp_path: Path) -> None:
    words = {
        "index.noun": "  1 a license\ncar n 2 1 @ 2 7 00000010 00000020  \n",
        "data.noun": "  1 a license\n"
        "00000010 06 n 03 car 0 auto 0 motor_vehicle 0 001 @ 00000099 n 0000 | a machine\n"
        "00000020 06 n 02 car 1 carriage 0 000 | of a train\n",
        "index.adj": "big a 1 0 1 0 00000030  \ncar a 1 0 1 1 00000030  \n",
        "data.adj": "00000030 00 s 02 big(p) 0 large 0 000 | of size\n",
    }
    for part in ("noun", "verb", "adj", "adv"):
        for kind in ("index", "data"):
            (tmp_path / f"{kind}.{part}").write_text(words.get(f"{kind}.{part}", ""))
    assert load_synonyms(tmp_path) == {"car": ("auto",), "big": ("large",)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ways": ["synonym"]}, "need words to choose from"),
        ({"ways": ["insert"], "synonyms": "none.txt"}, "none.txt"),
        ({"ways": ["insert"], "synonyms": "one.txt"}, "two words or more"),
        ({"ways": ["insert"], "synonyms": "."}, "no WordNet"),
        ({"ways": ["guess"]}, "guess|synonym"),
    ],
)
def test_what_can_not_be_augmented_by_is_said(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    (tmp_path / "one.txt").write_text("alone\n")
    with pytest.raises(UserError, match=says):
        built(tmp_path, [{"augment": options}])


def test_pinyin_is_how_it_sounds(tmp_path: Path) -> None:
    pytest.importorskip("pypinyin")
    (one,) = made(Augment(ways=("pinyin",)), [row(1, "新乡")], tmp_path)
    assert asked(one) in ("xin乡", "新xiang")


def test_names_and_numbers_are_others_in_question_and_answer_alike(tmp_path: Path) -> None:
    step = Entities(lists={"city": ("York", "New York", "Leeds")}, times=3)
    question = "From New York: my card 4111 1111 1111 1111, me@here.org?"
    answer = "New York has the card 4111 1111 1111 1111 of me@here.org."
    found = made(step, [row(1, question, answer), row(2, "nothing", "here")], tmp_path)
    assert len(found) == 3
    for placed in found:
        city, card, mail = re.fullmatch(r"From (.+): my card (.+), (.+)\?", asked(placed)).groups()  # type: ignore[union-attr]
        assert placed.row["completion"] == f"{city} has the card {card} of {mail}."
        assert city in ("York", "Leeds")
        assert mail.endswith("@example.com")
        assert card != "4111 1111 1111 1111"
        assert len(card) == 19


@pytest.mark.parametrize(
    "value", ["4111-1111-1111-1111", "DE89 3704 0044 0532 0130 00", "11010519491231002X"]
)
def test_other_numbers_are_valid_and_written_alike(value: str) -> None:
    from stdnum import iban, luhn
    from stdnum.cn import ric

    for seed in range(20):
        other = another_number(value, random.Random(seed))
        assert other is not None
        assert other != value
        assert [c in " -" for c in other] == [c in " -" for c in value]
        assert any(kind.is_valid(re.sub("[ -]", "", other)) for kind in (iban, luhn, ric))
    assert another_number("1234567890123", random.Random(0)) is None


@given(st.text(max_size=60), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_asked_otherwise(text: str, seed: int) -> None:
    step = Augment(ways=("delete", "swap", "typo"), share=0.5)
    step.run("augment", [row(1, text)], Context(Path(), seed))
    places = words_of(text, {})
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert applied(text, [(start, end, text[start:end]) for start, end in places]) == text
    assert each_asked({"text": text}, str.upper) == {"text": text.upper()}


def test_siblings_stay_on_one_side(tmp_path: Path) -> None:
    # Each of other words: rows that are alike stay together as well.
    letters = random.Random(5)
    rows = [
        {"text": " ".join("".join(letters.choices("aeioulnrst", k=7)) for _ in range(12))}
        for _ in range(40)
    ]
    made_of = pipeline(tmp_path, [{"augment": {"times": 2}}], rows=rows, validation=0.3)
    version = write_version(made_of, build(made_of, tmp_path / "cache"))
    sides = {part: {r.get("parent") or r["id"] for _, r in version.rows(part)}
             for part in ("train", "valid")}  # fmt: skip
    assert sides["train"]
    assert sides["valid"]
    assert not sides["train"] & sides["valid"]
    assert sum(version.meta["rows"].values()) > 100
