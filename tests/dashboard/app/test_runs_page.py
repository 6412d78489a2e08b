"""Runs are found, tagged, noted and set side by side; versions of a line over time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.queries import run_table
from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.notes import note_of, write_note
from harness.store.store import Store
from tests.dashboard.app.stories import SUITE, judged, opened, scored, tables, text_of


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    with Store(Workspace.at().ensure()) as store:
        for place, run in enumerate(("first", "second", "third")):
            config = {"stages": [{"learning_rate": 0.001 * (place + 1), "steps": 8}]}
            store.append("trainings", [{"training_id": run, "recipe": "r", "config": config}])
            right = [1.0] * (40 + 10 * place) + [0.0] * (20 - 10 * place)
            scored(store, run, {"match": right}, training=run, step=8)
        judged(store, "first", "third")
        yield store


def test_notes_and_tags_are_kept_and_found(store: Store) -> None:
    assert main(["note", "first", "learned nothing", "--tag", "keep"]) == 0
    assert main(["note", "first", "--tag", "名字"]) == 0
    assert main(["note", "second", "--tag", "keep"]) == 0
    assert main(["note", "second", "--untag", "keep"]) == 0
    assert main(["note", "second", "--tag", "two words"]) == 3
    assert main(["note", "nobody", "x"]) == 3
    assert note_of(store, "first").tags == ("keep", "名字")
    assert note_of(store, "first").text == "learned nothing"
    assert note_of(store, "second").tags == ()
    assert main(["note", "first", ""]) == 0
    assert note_of(store, "first").text == ""
    assert main(["note", "first", "--", "-3 points"]) == 0
    with pytest.raises(UserError, match="characters at most"):
        write_note(store, "first", actor="ana", text="x" * 3_000)
    assert [row["run_id"] for row in run_table.runs(store, SUITE, tag="keep")] == ["first"]
    for text in ("KEEP", "名字", "-3 POINTS", "model-first"):
        assert [row["run_id"] for row in run_table.runs(store, SUITE, text)] == ["first"], text
    assert not run_table.runs(store, SUITE, "%")
    assert [row["run_id"] for row in run_table.runs(store, SUITE)] == ["third", "second", "first"]

    (table,) = [frame.value for frame in opened("runs", tag="keep").dataframe]
    assert table["note"].tolist() == ["-3 points"]
    assert table["ask/match"].tolist() == [pytest.approx(2 / 3)]


def test_runs_stand_side_by_side_with_what_differs(store: Store) -> None:
    app = opened("runs", runs="third,first")
    table, metrics, settings = (frame.value for frame in app.dataframe)
    assert len(table) == 3
    assert metrics.iloc[0].tolist()[0] == "↑ ask/match"
    differs = settings.set_index("setting")
    assert differs.loc["training.stages.1.learning_rate"].tolist() == ["0.003", "0.001"]
    assert "training.stages.1.steps" not in differs.index
    labels = [str(link.proto.label) for link in app.get("page_link")]
    assert "compare the two runs →" in labels
    gone = opened("runs", runs="nobody")
    assert "nobody" in str(gone.warning[0].value)


def test_one_run_says_where_to_go_and_how_to_note(store: Store) -> None:
    app = opened("runs", runs="third")
    labels = [str(link.proto.label) for link in app.get("page_link")]
    assert "the verdict on this run →" in labels
    assert any("ratchet note third" in block.value for block in app.code)


def test_a_note_is_written_from_the_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.app.settings import ACTIONS_VARIABLE

    monkeypatch.setenv(ACTIONS_VARIABLE, "1")
    app = opened("runs", runs="third")
    app.text_input[-1].input("--looks promising")
    app.button[-1].click().run()
    assert not app.exception
    assert note_of(store, "third").text == "--looks promising"


def test_the_versions_of_a_line_over_time(demo: Store) -> None:
    app = opened("promotions")
    (table,) = tables(app)
    assert table["version"].tolist() == ["2", "1"]
    assert all("verdict?verdict=" in lead for lead in table["leads"])
    assert set(table["verdict"]) == {"✓ pass"}
    assert "proven better than version 1" in table["why"].tolist()
    assert "demo-support-bot" in text_of(app) or app.selectbox[0].value == "demo-support-bot"
    assert [str(link.proto.label) for link in app.get("page_link")] == [
        "the verdict that v2 stands on →"
    ]
