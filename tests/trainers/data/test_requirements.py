"""What is required of rows: figures, refusals and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.trainers.data.pipelines import pipeline
from trainers.data.build import build
from trainers.data.check import checked
from trainers.data.requirements import Figure, date_of, figures
from trainers.data.versions import write_version

ROWS = [
    *({"text": f"The parcel number {n} came.", "kind": "a", "day": "2026-03-01"} for n in range(6)),
    *({"text": f"Der Zug kam heute zu spät, {n}.", "kind": "b", "day": "2021"} for n in range(2)),
    {"text": "Ask ana@example.com for the invoice.", "kind": "b", "day": None},
]


def measured(folder: Path, **asked: Any) -> Figure:
    made = pipeline(folder, [], rows=ROWS, requirements=asked)
    (found,) = figures(made.model.requirements, build(made, None).rows, folder)
    return found


@pytest.mark.parametrize(
    ("asked", "figure", "outcome"),
    [
        ({"balance": {"field": "kind"}}, 2.0, "holds"),
        ({"balance": {"field": "kind", "at_most": 1.5}}, 2.0, "refused"),
        ({"balance": {"field": "kind", "at_most": 1.5, "otherwise": "warn"}}, 2.0, "warned"),
        ({"balance": {"field": "none"}}, None, "refused"),
        ({"recent": {"field": "day"}}, 0.75, "holds"),
        ({"recent": {"field": "day", "at_least": 0.8}}, 0.75, "refused"),
        ({"recent": {"field": "day", "as_of": "2031-01-01"}}, 0.0, "refused"),
        ({"recent": {"field": "kind"}}, None, "refused"),
        ({"personal": {}}, 0.111111, "refused"),
        ({"personal": {"at_most": 0.2}}, 0.111111, "holds"),
        ({"languages": {"only": ["en"]}}, 0.222222, "refused"),
        ({"languages": {"only": ["en", "de"]}}, 0.0, "holds"),
    ],
)
def test_figures(tmp_path: Path, asked: dict[str, Any], figure: float | None, outcome: str) -> None:
    found = measured(tmp_path, **asked)
    assert (found.figure, found.outcome) == (figure, outcome), found.says


def test_words_that_the_base_has_too(tmp_path: Path) -> None:
    (tmp_path / "base.jsonl").write_text(json.dumps({"text": "parcel number came 包裹"}))
    assert measured(tmp_path, overlap={"base": "base.jsonl"}).outcome == "refused"
    (tmp_path / "base.jsonl").write_text(json.dumps({"text": "Alle Vögel sind schon da"}))
    assert measured(tmp_path, overlap={"base": "base.jsonl"}).figure == 0
    with pytest.raises(UserError, match=r"not there[\s\S]*requirements\.overlap\.base"):
        measured(tmp_path, overlap={"base": "nothere.jsonl"})
    with pytest.raises(UserError, match="did you mean 'at_most'"):
        measured(tmp_path, balance={"field": "kind", "at_mots": 2})


def test_a_versions_meta_has_a_line_for_each(tmp_path: Path) -> None:
    asked = {"balance": {"field": "kind"}, "personal": {"otherwise": "warn"}}
    made = pipeline(tmp_path, [], rows=ROWS, requirements=asked)
    done = build(made, None)
    found = figures(made.model.requirements, done.rows, tmp_path)
    lines = write_version(made, done, found).meta["requirements"]
    assert [(line["requirement"], line["outcome"]) for line in lines] == [
        ("balance", "holds"),
        ("personal", "warned"),
    ]


def test_a_check_builds_nothing(tmp_path: Path) -> None:
    made = pipeline(tmp_path, ["clean"], rows=ROWS, requirements={"personal": {}})
    found = checked(made)
    assert (len(found.rows), found.holds) == (9, False)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": "Nothing personal."}) + "\n{\n")
    found = checked(made, str(other))
    assert (len(found.rows), len(found.unread), found.holds) == (1, 1, True)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2026-12-01T03:00:00Z", "2026-12-01"),
        ("20261201", "2026-12-01"),
        (2026, "2026-01-01"),
        ("2026-02-31", None),
        ("yesterday", None),
        (True, None),
    ],
)
def test_dates(value: Any, day: str | None) -> None:
    assert str(date_of(value) or None) == str(day)
