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
