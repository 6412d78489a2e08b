"""Verbs that read a file, with files that are wrong: one message with its place, and exit 3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl

WRONG: dict[str, bytes] = {
    "empty": b"",
    "zeros": b"\0" * 40,
    "random bytes": bytes(range(256)),
    "UTF-16": "name: s\n".encode("utf-16"),
    "GBK": "名字: 问答\n".encode("gbk"),
    "a list": b"- 1\n- 2\n",
    "a word": b"hello\n",
    "JSON": b'{"a": 1}\n',
    "broken YAML": b"a: [1\nb: }\n",
    "a deep list": b"[" * 3000,
    "an alias in itself": b"a: &a [*a]\n",
    "a date that is none": b"name: 2026-02-31\n",
    "half a character": b'name: "\\ud800"\n',
}

VERBS: dict[str, Callable[[Path], list[str]]] = {
    "suites check": lambda file: ["suites", "check", str(file)],
    "score": lambda file: ["score", "nothing", "--suite", str(file)],
    "gate": lambda file: ["gate", "nothing", "--against", "run:none", "--suite", str(file)],
    "import csv": lambda file: ["import", "csv", str(file), "--run", "x"],
    "import inspect": lambda file: ["import", "inspect", str(file)],
    "import lm-eval": lambda file: ["import", "lm-eval", str(file)],
    "import a bundle": lambda file: ["import", str(file)],
    "recipes check": lambda file: ["recipes", "check", str(file)],
    "train": lambda file: ["train", str(file), "--dry-run"],
    "data build": lambda file: ["data", "build", str(file)],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [*WRONG, "a folder", "nothing there"])
def test_a_wrong_file_is_the_users(
    verb: str, kind: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    file = tmp_path / "wrong.yaml"
    if kind == "a folder":
        file.mkdir()
    elif kind != "nothing there":
        file.write_bytes(WRONG[kind])
    code, said = ratchet(*VERBS[verb](file))
    assert code == 3, said
    assert "defect of ours" not in said
    assert "Traceback" not in said


ROWS = {
    "half a character": ('{"id": "1", "q": "a"}\n{"id": "2", "q": "\\ud83d"}\n', "rows.jsonl:2"),
    "a list": ('{"id": "1", "q": ["a", "b"]}\n', "stands where text is meant"),
    "turns": ('{"id": "1", "q": [{"role": "user", "content": "a"}]}\n', "the row would read"),
    "a null": ('{"id": "1", "q": null}\n', "a value is null"),
    "another field": ('{"id": "1", "question": "a"}\n', "the row's fields are"),
    "one id twice": ('{"id": "1", "q": "a"}\n{"id": "1", "q": "b"}\n', "used twice"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_wrong_row_is_named_by_suites_check(
    kind: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    content, message = ROWS[kind]
    (tmp_path / "rows.jsonl").write_text(content)
    task = {"data": "rows.jsonl", "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    code, said = ratchet("suites", "check", suite_yaml(tmp_path, tasks={"t": task}))
    assert (code, message in said) == (3, True), said
    assert "rows.jsonl:" in said


@pytest.mark.parametrize("stop", [[""], "", ["\n", ""]])
def test_an_empty_stop_string_is_refused(
    stop: object, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "1", "q": "a"}])
    task = {
        "data": "rows.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"stop": stop},
        "metrics": ["length"],
    }
    code, said = ratchet("suites", "check", suite_yaml(tmp_path, tasks={"t": task}))
    assert (code, "stop string is empty" in said) == (3, True), said


@pytest.mark.parametrize(
    "words", [["runs"], ["report", "run:abcd"], ["gate", "run:a", "--against", "run:b"]]
)
@pytest.mark.parametrize("kind", ["another program's", "no DuckDB file", "an empty table"])
def test_a_foreign_database_is_said_and_left_alone(
    words: list[str], kind: str, home: Workspace
) -> None:
    home.ensure()
    if kind == "no DuckDB file":
        home.database.write_text("these are my notes\n" * 1000)
    else:
        with duckdb.connect(str(home.database)) as connection:
            connection.execute("CREATE TABLE mine (x INTEGER)")
            if kind == "an empty table":
                connection.execute("CREATE TABLE schema_version (version INTEGER)")
    before = home.database.read_bytes()
    assert main(words) == 3
    assert home.database.read_bytes() == before


def test_a_foreign_database_is_named(home: Workspace, ratchet: Ratchet) -> None:
    home.ensure()
    with duckdb.connect(str(home.database)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    code, said = ratchet("runs")
    assert (code, "is not a store of Ratchet" in said, "--home" in said) == (3, True, True)


TYPED: dict[str, tuple[str, str]] = {
    "a half": ('max_new_tokens: 4\n      stop: ["\\ud83d"]', "half a character"),
}


@pytest.mark.parametrize("kind", TYPED)
def test_what_yaml_reads_as_something_else_is_explained(
    kind: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    written, message = TYPED[kind]
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "1", "q": "a"}])
    file = tmp_path / "suite.yaml"
    file.write_text(
        "name: s\ntasks:\n  t:\n    data: rows.jsonl\n    prompt: {user: '{{ q }}'}\n"
        f"    generate:\n      {written}\n    metrics: [length]\n",
        encoding="utf-8",
    )
    code, said = ratchet("suites", "check", file)
    assert (code, message in said) == (3, True), said
    assert "suite.yaml:" in said


@pytest.mark.parametrize(
    "name", ["@sampling", "a/b", "", " ", "two\nlines", "bell\x07", "half\ud800"]
)
def test_a_task_has_a_name_that_can_be_written(
    name: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "1", "q": "a"}])
    task = {"data": "rows.jsonl", "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    code, said = ratchet("suites", "check", suite_yaml(tmp_path, tasks={name: task}))
    assert code == 3, said
    assert "defect" not in said


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv"])
@pytest.mark.parametrize("kind", ["a folder", "a link to itself"])
def test_data_that_is_no_file_is_named(
    kind: str, name: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    place = tmp_path / name
    if kind == "a folder":
        place.mkdir()
    else:
        place.symlink_to(name)
    task = {"data": name, "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    code, said = ratchet("suites", "check", suite_yaml(tmp_path, tasks={"t": task}))
    assert code == 3, said
    assert ("this folder has no file of rows" in said) == (kind == "a folder")


@pytest.mark.parametrize("data", ["hub:", "hub::", "hub:a/b:c:d:e"])
def test_what_names_no_dataset_is_said(
    data: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    task = {"data": data, "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    code, said = ratchet("suites", "check", suite_yaml(tmp_path, tasks={"t": task}))
    assert (code, "names no dataset" in said) == (3, True), said


ADDRESSES = ["http://[::1/v1", "http://", "http://a b/v1", "http://x:99999999/v1", "http://x/v\n1"]


@pytest.mark.parametrize("address", [*ADDRESSES, "http://\udc80x/v1"])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_what_is_no_address_is_said(
    address: str, in_a_file: bool, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    import json

    name = f"openai:{address}#m"
    if in_a_file:
        described = tmp_path / "served.yaml"
        described.write_text(json.dumps({"url": address, "model": "m"}))
        name = f"openai:{described}"
    code, said = ratchet("score", name, "--suite", suite_yaml(tmp_path))
    assert code == 3, said
    assert "defect" not in said


@pytest.mark.parametrize("begins", [b"SQLite format 3\x00", b"PAR1", b"\x00" * 16, b""])
def test_a_database_of_another_kind_is_never_opened(
    begins: bytes, home: Workspace, ratchet: Ratchet
) -> None:
    home.ensure()
    home.database.write_bytes(begins + b"\x00" * 4096 * bool(begins))
    code, said = ratchet("runs")
    assert (code, "is not a DuckDB database" in said) == (3, True), said


def test_a_folder_in_the_databases_place_is_said(home: Workspace, ratchet: Ratchet) -> None:
    home.ensure()
    home.database.mkdir()
    code, said = ratchet("runs")
    assert (code, "a folder stands in the database's place" in said) == (3, True), said


def test_a_workspace_that_no_database_can_be_told_of(tmp_path: Path, ratchet: Ratchet) -> None:
    code, said = ratchet("--home", tmp_path / "\udc80", "runs")
    assert (code, "not UTF-8" in said) == (3, True), said


def test_columns_that_json_does_not_know_are_stored_as_they_read(
    home: Workspace, tmp_path: Path
) -> None:
    """A suite that `suites check` passes is scored: what lies beside the prompt is no obstacle."""
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal

    import pyarrow
    import pyarrow.parquet as parquet

    from harness.evaluation.runner import score
    from harness.store.runs import load_samples
    from harness.store.store import Store
    from harness.suite.load import load_suite
    from tests.harness.suite_builders import scripted

    columns = {
        "id": ["1", "2"],
        "q": pyarrow.array(["a", "b"]).dictionary_encode(),
        "price": [Decimal("1.20"), None],
        "day": [date(2026, 1, 2), None],
        "at": [datetime(2026, 1, 2, 3), None],
        "clock": [time(3, 4), None],
        "took": [timedelta(1), None],
        "raw": [b"\xff\x00", None],
        "share": [float("nan"), float("inf")],
        "parts": [[{"x": float("nan")}], None],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    task = {
        "data": "rows.parquet",
        "prompt": {"user": "{{ q }}: {{ price or '' }} {{ day or '' }}"},
        "metrics": ["length"],
    }
    suite = load_suite(suite_yaml(tmp_path, tasks={"t": task}, gate={}))
    assert suite.tasks[0].samples[0].prompt[0]["content"] == "a: 1.20 2026-01-02"
    with Store(home) as store:
        assert score(scripted()[0], suite, store).generated == 2
        kept = load_samples(store, suite.tasks[0].digest)
    assert kept["1"].fields == {
        **{"id": "1", "q": "a", "price": "1.20", "day": "2026-01-02", "share": None},
        **{"at": "2026-01-02T03:00:00", "clock": "03:04:00", "took": "1 day, 0:00:00"},
        **{"raw": "(2 bytes)", "parts": [{"x": None}]},
    }
    assert kept["2"].fields["share"] == "inf"
