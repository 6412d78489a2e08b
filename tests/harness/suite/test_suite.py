"""Loading a suite, and the errors for a wrong one: file, line, field and hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import Sample
from harness.evaluation.plan import limited
from harness.suite.load import load_suite
from tests.harness.suite_builders import suite_yaml, write_jsonl


def write(folder: Path, text: str) -> Path:
    write_jsonl(folder / "rows.jsonl", [{"id": "a", "q": "1+1?", "answer": "2"}])
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


TASK = """name: s
tasks:
  sums:
    data: rows.jsonl
    prompt: {user: "{{ q }}"}
    reference: "{{ answer }}"
    metrics: [exact_match]
"""


def test_a_suite_is_rendered_from_its_rows(tmp_path: Path) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    sample = suite.task("ask").samples[2]
    assert sample.id == "中国"
    assert sample.prompt[-1] == {"role": "user", "content": "Capital of 中国?"}
    assert sample.references == ("北京",)
    assert suite.task("read").samples[0].text == "Paris is in France."


@pytest.mark.parametrize(
    ("template", "column", "roles"),
    [
        ("{{ s }}", "Be brief.", ["system", "user"]),
        ("{{ s }}", "", ["user"]),
        ("{{ s }} ", "\n", ["user"]),
        ("You are. {{ s }}", "", ["system", "user"]),
        ("", "x", ["system", "user"]),
    ],
)
def test_a_system_text_that_a_row_leaves_empty_is_no_turn(
    tmp_path: Path, template: str, column: str, roles: list[str]
) -> None:
    prompt = f"{{system: {json.dumps(template)}, "
    path = write(tmp_path, TASK.replace("prompt: {", f"prompt: {prompt}"))
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "a", "q": "?", "answer": "2", "s": column}])
    [sample] = load_suite(path).task("sums").samples
    assert [turn["role"] for turn in sample.prompt] == roles


def test_an_object_in_a_row_is_rendered_as_json(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "a", "q": "?", "answer": {"城市": ["北京", 1]}}])
    path = tmp_path / "suite.yaml"
    path.write_text(TASK, encoding="utf-8")
    assert load_suite(path).task("sums").samples[0].references == ('{"城市":["北京",1]}',)


@pytest.mark.parametrize(
    ("change", "line", "field", "says"),
    [
        (("metrics:", "metriks:"), 7, "tasks.sums.metriks", "unknown key 'metriks'"),
        (("exact_match", "exact_mach"), 7, "tasks.sums.metrics.0", "exact_mach"),
        (("    data: rows.jsonl\n", ""), 3, "tasks.sums.data", "'data' is missing"),
        (("rows.jsonl", "nowhere.jsonl"), 4, "tasks.sums.data", "not there"),
        (("rows.jsonl", f"{'9' * 300}.jsonl"), 4, "tasks.sums.data", "not there"),
        (("[exact_match]", "3"), 7, "tasks.sums.metrics", "a list is expected here"),
        (("[exact_match]", "exact_match, f1"), 7, "tasks.sums.metrics", "a list is expected here"),
        (("[exact_match]", "[perplexity]"), 7, "tasks.sums.metrics.0", "given text"),
        (('"{{ q }}"', '"{{ q "'), 5, "tasks.sums.prompt.user", "template"),
        (('    prompt: {user: "{{ q }}"}\n', ""), 3, "tasks.sums", "either a `prompt`"),
        (
            ("    metrics", "    generate: {responses: 4}\n    metrics"),
            7,
            "tasks.sums.generate",
            "temperature 0",
        ),
        (("    metrics", "    reserve: 2\n    metrics"), 7, "tasks.sums.reserve", "less than"),
        (("name: s\n", 'name: "\\ud800"\n'), 1, "name", "half a character"),
        (("name: s\n", 'name: "a\\0b"\n'), 1, "name", "a NUL"),
        (("name: s\n", "name: s\nname: s\n"), 2, "name", "written twice"),
        (("name: s", "name: [s"), 2, None, "not valid YAML"),
    ],
)
def test_a_wrong_suite_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, field: str | None, says: str
) -> None:
    path = write(tmp_path, TASK.replace(*change))
    with pytest.raises(UserError) as caught:
        load_suite(path)
    error = caught.value
    assert says in error.what
    assert (error.file, error.line, error.field) == (str(path), line, field)


def test_an_unknown_key_gets_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_suite(write(tmp_path, TASK.replace("reference:", "referense:")))
    assert caught.value.hint == "did you mean 'reference'?"


def test_the_gate_may_not_name_a_metric_that_no_task_has(tmp_path: Path) -> None:
    path = write(tmp_path, TASK + "gate:\n  metrics:\n    sums/rouge_l: {required: true}\n")
    with pytest.raises(UserError, match="no task has") as caught:
        load_suite(path)
    assert caught.value.line == 10
    assert "sums/exact_match" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"id": "a", "q": "x", "answer": "1"}\nnot json\n', 2, "not JSON"),
        ('{"id": "a", "q": "x", "answer": "1"}\n[1]\n', 2, "JSON object"),
        ("", None, "no rows"),
        ('{"id": "a", "q": "x", "answer": "1"}\n' * 2, 2, "used twice (first on line 1)"),
        ('{"id": "a", "q": "x"}\n', 1, "'answer' is undefined"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(
    tmp_path: Path, text: str, line: int | None, says: str
) -> None:
    path = write(tmp_path, TASK)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(path)
    assert says in caught.value.what
    assert caught.value.file == str(tmp_path / "rows.jsonl")
    assert caught.value.line == line


def test_csv_and_parquet_say_the_same_as_jsonl(tmp_path: Path) -> None:
    import pandas

    rows = [
        {"id": "a", "q": "1+1?", "answer": "2"},
        {"id": "b", "q": "2+2, 再加一?", "answer": "5"},
    ]
    frame = pandas.DataFrame(rows)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    write_jsonl(tmp_path / "rows.jsonl", rows)
    seen = set()
    for kind in ("jsonl", "csv", "parquet"):
        path = tmp_path / f"{kind}.yaml"
        path.write_text(TASK.replace("rows.jsonl", f"rows.{kind}"), encoding="utf-8")
        seen.add(load_suite(path).digest)
    assert len(seen) == 1


def test_the_digest_covers_the_protocol_and_not_the_gate(tmp_path: Path) -> None:
    digest = load_suite(write(tmp_path, TASK)).digest
    assert load_suite(write(tmp_path, TASK + "gate: {margin: 0.2}\n")).digest == digest
    for change in (("{{ q }}", "{{ q }} "), ("exact_match", "token_f1"), ("{{ answer }}", "2!")):
        assert load_suite(write(tmp_path, TASK.replace(*change))).digest != digest


def test_a_reserve_is_a_share_that_does_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [{"id": str(i), "q": str(i), "answer": "2"} for i in range(50)]
    path = write(tmp_path, TASK + "    reserve: 0.3\n")
    kept = []
    for order in (rows, rows[::-1]):
        write_jsonl(tmp_path / "rows.jsonl", order)
        kept.append({s.id for s in load_suite(path).task("sums").samples if s.reserve})
    assert len(kept[0]) == 15
    assert kept[0] == kept[1]


@given(st.integers(1, 60), st.integers(0, 5))
def test_a_limit_is_a_seeded_sample_in_the_data_order(limit: int, seed: int) -> None:
    samples = tuple(Sample(str(i), "t") for i in range(40))
    chosen = limited(samples, limit, seed)
    assert len(chosen) == min(limit, 40)
    assert list(chosen) == [s for s in samples if s in chosen]
    # A larger limit only adds samples: what was scored under the smaller one is reused.
    assert {s.id for s in chosen} <= {s.id for s in limited(samples, limit + 1, seed)}


def test_a_limit_does_not_take_the_first_ones() -> None:
    samples = tuple(Sample(str(i), "t") for i in range(40))
    assert limited(samples, 10, 0) != samples[:10]
    assert limited(samples, 10, 0) != limited(samples, 10, 1)


def test_an_option_that_is_a_path_is_relative_to_the_suite(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("answer 1\n", encoding="utf-8")
    options = "metrics: [sensitive_words: {file: ./words.txt}]"
    path = write(tmp_path, TASK.replace("metrics: [exact_match]", options))
    [metric] = load_suite(path).task("sums").metrics
    assert metric.spec.name == "sensitive_words"


def test_a_dataset_is_read_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    rows = [{"id": "a", "q": "1+1?", "answer": "2"}, {"id": "b", "q": "二加二？", "answer": "4"}]
    write_jsonl(tmp_path / "set" / "test.jsonl", rows)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    path = tmp_path / "suite.yaml"
    path.write_text(TASK.replace("rows.jsonl", f"hub:{tmp_path / 'set'}:test"), encoding="utf-8")
    from_hub = load_suite(path)
    path.write_text(TASK, encoding="utf-8")
    assert from_hub.digest == load_suite(path).digest


def test_a_dataset_that_cannot_be_loaded_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    path = write(tmp_path, TASK.replace("rows.jsonl", "hub:nobody/nothing-of-the-kind"))
    with pytest.raises(UserError, match="can't be loaded") as caught:
        load_suite(path)
    assert "go online once" in str(caught.value.hint)
