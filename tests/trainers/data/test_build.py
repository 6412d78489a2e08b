"""Rows through steps: reasons, the cache, the same bytes, and what is said of wrong pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.trainers.data.pipelines import SHAPED, STEPS, built, pipeline
from trainers.data.build import build


def test_each_drop_has_its_line_its_step_and_its_reason(tmp_path: Path) -> None:
    done = built(tmp_path)
    assert [(drop.placed.line, drop.step, drop.reason) for drop in done.drops] == [
        (2, "read", "the line can't be read"),
        (7, "read", "the line can't be read"),
        (8, "read", "the template can't be filled"),
        (4, "length", "shorter than 5 characters"),
        (5, "language", "the language is ru"),
        (3, "exact", "the same as another row"),
    ]
    assert done.drops[-1].detail == "rows.jsonl line 1"
    assert [(each.name, each.kept) for each in done.passed] == [
        *(("read", 5), ("clean", 5), ("length", 4), ("language", 3), ("exact", 2)),
        ("personal", 2),
    ]
    assert done.rows[1].row["completion"] == "写信给 [EMAIL] 就可以"


def test_a_changed_step_runs_again_with_those_behind_it(tmp_path: Path) -> None:
    first = built(tmp_path)
    again = built(tmp_path)
    assert [each.cached for each in again.passed[1:]] == [True] * 5
    assert (again.rows, again.drops) == (first.rows, first.drops)
    changed = [*STEPS[:3], {"exact": {"case": True}}, STEPS[4]]
    other = built(tmp_path, changed)
    assert [each.cached for each in other.passed[1:]] == [True, True, True, False, False]
    assert len(other.rows) == 3


def test_a_changed_row_runs_everything_again(tmp_path: Path) -> None:
    rows = [{"text": "How do I reset the device?"}, {"text": "What does the warranty cover?"}]
    built(tmp_path, ["clean"], rows=rows)
    assert not built(tmp_path, ["clean"], rows=rows[:1]).passed[1].cached


def test_what_was_kept_in_part_is_done_again(tmp_path: Path) -> None:
    first = built(tmp_path)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    again = built(tmp_path)
    assert not any(each.cached for each in again.passed)
    assert again.rows == first.rows


def test_rows_take_the_shapes_of_recipes(tmp_path: Path) -> None:
    row = {
        "talk": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "good": "yes",
        "bad": "no",
        "kind": "x",
    }
    source = {
        "source": "rows.jsonl",
        "messages": "{{ talk[:1] }}",
        "chosen": "{{ good }}",
        "rejected": "{{ bad }}",
        "keep": ["kind"],
    }
    (placed,) = built(tmp_path, [], rows=[row], source=source).rows
    assert {name: placed.row[name] for name in ("messages", "chosen", "rejected", "kind")} == {
        "messages": [{"role": "user", "content": "Hi"}],
        "chosen": "yes",
        "rejected": "no",
        "kind": "x",
    }


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"steps": ["exakt"]}, r"no step named 'exakt'[\s\S]*steps\.0[\s\S]*did you mean exact"),
        ({"steps": [{"length": {"mni": 5}}]}, r"unknown key 'mni'[\s\S]*did you mean 'min'"),
        ({"steps": [{"length": {"min": 9, "max": 8}}]}, "`min` is above `max`"),
        ({"steps": [{"length": {"min": 900}}]}, r"no row is left after length[\s\S]*line 1: "),
        ({"steps": [{"length": 5}]}, "keys and values"),
        ({"steps": [{"clean": {}, "exact": {}}]}, "one name with its options"),
        ({"stepz": []}, "did you mean 'steps'"),
        ({"source": {"source": "nothere.jsonl"}}, r"nothere\.jsonl[\s\S]*sources\.0\.source"),
        ({"source": {**SHAPED, "completion": "{{ a"}}, r"sources\.0\.completion"),
        ({"source": {**SHAPED, "completion": "{{ b }}"}}, "'b' is undefined"),
        ({"source": {"source": "dataset:sport@v1"}}, "no data set 'sport'"),
        ({"source": {"source": "rows.jsonl", "keep": ["q"]}}, "every column is kept"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says) as error:
        build(pipeline(tmp_path, **keys), None)
    assert "pipeline.yaml" in str(error.value)
