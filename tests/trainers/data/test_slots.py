"""Rows of templates with slots, and questions of a graph's triples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.trainers.data.pipelines import built, pipeline
from trainers.data.build import build

SLOTS = {"city": ["Rome", "Oslo", "北京"], "day": ["today", "tomorrow"]}
WEATHER = {"asked": "Weather in {{ city }} {{ day }}?", "answer": "weather({{ city }}, {{ day }})"}


def slots(**options: Any) -> dict[str, Any]:
    return {"slots": {"templates": [WEATHER], "slots": SLOTS, **options}}


def test_each_row_says_something_else_and_answers_what_it_asks(tmp_path: Path) -> None:
    text = {"asked": "{{ city }} is a city."}
    rows = built(tmp_path, [slots(templates=[WEATHER, text])], rows=[{"text": "a row"}]).rows
    made = rows[1:]
    assert len(made) == 6 + 3
    assert len({placed.id for placed in made}) == 9
    for placed in made[:6]:
        (turn,) = placed.row["messages"]
        city = next(c for c in SLOTS["city"] if c in turn["content"])
        day = next(d for d in SLOTS["day"] if d in turn["content"])
        assert placed.row["completion"] == f"weather({city}, {day})"
    assert {placed.row["text"] for placed in made[6:]} == {f"{c} is a city." for c in SLOTS["city"]}
    assert len({placed.parent for placed in made}) == 2


def test_as_many_as_asked_for_and_the_same_ones(tmp_path: Path) -> None:
    def drawn(**keys: Any) -> list[str]:
        made_of = pipeline(tmp_path, [slots(count=4)], rows=[{"text": "a row"}], **keys)
        return [placed.id for placed in build(made_of, None).rows[1:]]

    assert len(drawn()) == 4
    assert drawn() == drawn()
    assert drawn(seed=1) != drawn()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"templates": [{"asked": "In {{ town }}?"}]}, "can't be filled"),
        ({"slots": {"city": []}}, "'city' is empty"),
        ({"templates": []}, "templates"),
    ],
)
def test_what_can_not_be_filled_is_said(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        built(tmp_path, [slots(**options)], rows=[{"text": "a row"}])


def test_triples_become_questions_by_their_relation(tmp_path: Path) -> None:
    source = {
        "source": "rows.jsonl",
        "where": {"relation": "capital"},
        "prompt": {"user": "What is the capital of {{ head }}?"},
        "completion": "{{ tail }}",
    }
    triples = [
        {"head": "Norway", "relation": "capital", "tail": "Oslo"},
        {"head": "Norway", "relation": "borders", "tail": "Sweden"},
    ]
    (one,) = built(tmp_path, [], rows=triples, source=source).rows
    assert one.row["messages"] == [{"role": "user", "content": "What is the capital of Norway?"}]
    assert one.row["completion"] == "Oslo"
