"""The page that says why: where, what kind, which words, which rows; and what leads to it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from harness.comparison.taught_rows import TaughtRow, TaughtRows, keep_taught
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.store import Store
from tests.dashboard.app.stories import opened, tables, text_of
from tests.dashboard.hostile_texts import TEXTS
from tests.harness.suite_builders import verdict_between


def failed(store: Store) -> str:
    [row] = store.query(
        "SELECT verdict_id FROM verdicts WHERE outcome = 'fail' ORDER BY seq DESC LIMIT 1"
    )
    return str(row["verdict_id"])


def marked(app: object) -> str:
    return "\n".join(str(block.proto.body) for block in app.get("html"))  # type: ignore[attr-defined]


def test_a_fail_is_explained_from_what_is_stored(demo: Store) -> None:
    app = opened("explain", verdict=failed(demo))
    said = text_of(app)
    for heading in (
        "Where it fell", "What kind of mistakes", "Which words", "Which rows taught it"
    ):  # fmt: skip
        assert any(part.value == heading for part in app.subheader), heading
    assert "lost on average over" in said
    assert "intents/json_match" in said
    assert "no JSON object" in said
    body = marked(app)
    assert "<mark" in body
    assert "something went wrong" in body
    assert any("ratchet explain" in block.value for block in app.code)


def test_it_opens_on_the_last_verdict_that_is_in_doubt(demo: Store) -> None:
    app = opened("explain")
    [newest] = demo.query(
        "SELECT verdict_id FROM verdicts WHERE outcome IN ('fail', 'inconclusive') "
        "ORDER BY seq DESC LIMIT 1"
    )
    assert app.selectbox(key="pick.verdict").value == newest["verdict_id"]


def test_in_chinese_no_sentence_is_left_in_english(demo: Store) -> None:
    app = opened("explain", verdict=failed(demo), lang="zh")
    said = text_of(app)
    assert "差在哪里" in said or any(part.value == "差在哪里" for part in app.subheader)
    assert "不是 JSON 对象" in said
    for english in (" lost", "average", "no JSON object", "samples that"):
        assert english not in said


@pytest.mark.parametrize("hostile", [TEXTS[0], TEXTS[3], TEXTS[6]])
def test_rows_that_were_found_are_shown_as_text(demo: Store, hostile: str) -> None:
    [row] = demo.query(
        "SELECT verdict_id, training_id FROM verdicts WHERE outcome = 'fail' AND training_id IS "
        "NOT NULL LIMIT 1"
    )
    found = TaughtRows((TaughtRow("rows.jsonl:17", 0.25, hostile),), 400, 90, 64, 12, 18)
    keep_taught(demo.workspace, row["training_id"], row["verdict_id"], found)
    st.cache_data.clear()
    app = opened("explain", verdict=row["verdict_id"])
    said = text_of(app)
    assert "Of 400 rows from step 12 to 18 90 raised" in said
    [rows] = [table for table in tables(app) if "row" in table.columns]
    assert rows["row"].tolist() == ["rows.jsonl:17"]
    assert rows["harm"].tolist() == ["25.0%"]
    body = marked(app)
    assert escape(hostile) in body
    assert "<" not in hostile or hostile not in body
    assert hostile not in said.replace("\u2060", "").split("harm")[0]


def test_every_verdict_in_doubt_leads_to_it(demo: Store) -> None:
    name = failed(demo)
    links = [link.proto.page for link in opened("verdict", verdict=name).get("page_link")]
    assert "explain" in links
    [table] = [t for t in tables(opened("overview")) if "verdict" in t.columns]
    doubted = table["verdict"].str.startswith(("✗", "◆"))
    assert (table["why"] != "").tolist() == doubted.tolist()
    [passed] = demo.query("SELECT verdict_id FROM verdicts WHERE outcome = 'pass' LIMIT 1")
    passing = opened("verdict", verdict=passed["verdict_id"])
    assert "explain" not in [link.proto.page for link in passing.get("page_link")]


def test_hostile_answers_fields_and_names_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    bad = f"{TEXTS[0]} {TEXTS[2]} \x1b[31m\u202e {TEXTS[16]}"
    rows: list[Mapping[str, Any]] = [
        {"id": f"{n} {TEXTS[1]}", "q": f"ask {n}", "a": "yes", "kind": TEXTS[0] if n % 2 else "k"}
        for n in range(40)
    ]
    with Store(Workspace.at().ensure()) as store:
        verdict = verdict_between(tmp_path, store, rows, {"ask": "yes"}, {"ask": bad})
    st.cache_data.clear()
    app = opened("explain", verdict=verdict)
    body = marked(app)
    assert "window.__ran" in body
    for markup in ("<script>window", "<img", "<form", "<button", "\x1b", "\u202e"):
        assert markup not in body.replace("<script>document", ""), markup
