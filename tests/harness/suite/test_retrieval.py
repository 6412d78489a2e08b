"""A suite looks passages up before it asks: they are in prompts, metrics and protocol."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from harness.suite.load import load_suite
from harness.suite.suite import Task
from tests.harness.suite_builders import write_jsonl

pytest.importorskip("bm25s")

ROWS = [
    {"id": "1", "q": "Who keeps bees?", "a": "Ana", "relevant": ["p2"]},
    {"id": "2", "q": "谁养蜂？", "a": "老王", "relevant": ["p3"]},
    {"id": "3", "q": "Zebras?", "a": "", "relevant": []},
]
PASSAGES = [
    {"id": "p1", "text": "Boats are kept in the harbour."},
    {"id": "p2", "text": "Ana keeps bees on the hill."},
    {"id": "p3", "text": "老王在山上养蜂。"},
]
PROMPT = {"user": "{% for one in contexts %}[{{ one.id }}] {{ one.text }}\n{% endfor %}{{ q }}"}


def task_of(
    folder: Path, passages: Any = PASSAGES, rows: Any = ROWS, prompt: Any = PROMPT, **retrieve: Any
) -> Task:
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "corpus.jsonl", passages)
    task = {
        "data": "rows.jsonl",
        "retrieve": {"from": "corpus.jsonl", "query": "{{ q }}", "k": 2, **retrieve},
        "prompt": prompt,
        "reference": "{{ a }}",
        "metrics": ["contains", {"hit_at_k": {"k": 1, "ranking": "contexts"}}],
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "tasks": {"t": task}}, allow_unicode=True))
    return load_suite(path).task("t")


def test_what_is_found_is_asked(tmp_path: Path) -> None:
    samples = task_of(tmp_path).samples
    asked = [sample.prompt[0]["content"] for sample in samples]
    assert asked == [
        "[p2] Ana keeps bees on the hill.\nWho keeps bees?",
        "[p3] 老王在山上养蜂。\n谁养蜂？",
        "Zebras?",
    ]
    assert samples[0].fields["contexts"] == [{"id": "p2", "text": "Ana keeps bees on the hill."}]
    assert "contexts" not in ROWS[0]


def test_the_protocol_changes_with_what_is_found_and_with_nothing_else(tmp_path: Path) -> None:
    before = task_of(tmp_path).digest
    assert task_of(tmp_path).digest == before
    more = {"id": "p4", "text": "Nothing of the kind."}
    assert task_of(tmp_path, [*PASSAGES, more]).digest == before
    other = [{**one, "text": one["text"].replace("hill", "roof")} for one in PASSAGES]
    assert task_of(tmp_path, other).digest != before
    assert task_of(tmp_path, k=1).digest != before


def test_a_row_without_an_id_keeps_its_own_whatever_is_found(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "id"} for row in ROWS]
    other = [{**one, "text": one["text"].replace("hill", "roof")} for one in PASSAGES]
    one, two = (task_of(tmp_path, passages, rows) for passages in (PASSAGES, other))
    assert [sample.id for sample in one.samples] == [sample.id for sample in two.samples]


def test_shots_have_passages_of_their_own(tmp_path: Path) -> None:
    prompt = {**PROMPT, "shots": {"from": "rows.jsonl", "n": 1}}
    turns = task_of(tmp_path, prompt=prompt).samples[0].prompt
    assert turns[0]["content"] == "[p3] 老王在山上养蜂。\n谁养蜂？"


@pytest.mark.parametrize(
    ("change", "what", "place"),
    [
        ({"passages": [{"id": "p1"}]}, "the passage has no text", "corpus.jsonl:1"),
        ({"passages": [PASSAGES[0]] * 2}, "the id 'p1' is used twice", "corpus.jsonl:2"),
        ({"rows": [{**ROWS[0], "contexts": []}]}, "has a field 'contexts'", "rows.jsonl:1"),
        ({"query": "{{ question }}"}, "question", "rows.jsonl:1"),
        ({"query": "{{ q"}, "", "suite.yaml"),
        ({"from": "nowhere.jsonl"}, "the data file is not there: nowhere.jsonl", "suite.yaml"),
        ({"k": 0}, "greater than or equal to 1", "suite.yaml"),
    ],
)
def test_what_is_wrong_is_one_message_with_its_place(
    tmp_path: Path, change: dict[str, Any], what: str, place: str
) -> None:
    with pytest.raises(UserError) as raised:
        task_of(tmp_path, **change)
    assert what in str(raised.value)
    assert place in str(raised.value)


def test_without_bm25s_the_suite_says_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="bm25s is not installed") as raised:
        task_of(tmp_path)
    assert (raised.value.file, raised.value.hint) == (
        str(tmp_path / "suite.yaml"),
        "pip install 'ratchet-eval[rag]'",
    )
