"""`ratchet init` finds what a file of rows is for, and writes a suite that checks."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from harness.core.workspace import Workspace
from harness.suite.draft import MARGINS, carried_margin
from harness.suite.load import load_suite
from tests.harness.suite_builders import Ratchet

LONG = "They mostly eat krill and small fish, depending on the species and on the season."


def talk(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"What does whale {number} eat?"},
        {"role": "assistant", "content": LONG},
    ]


def sharegpt(number: int) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": f"\u7b2c{number}\u5934\u9cb8\u9c7c\u5403\u4ec0\u4e48\uff1f"},
        {"from": "gpt", "value": "\u4e3b\u8981\u5403\u78f7\u867e\u548c\u5c0f\u9c7c\u3002" * 9},
    ]


SHAPES: dict[str, tuple[Any, str, str]] = {
    "openai": (lambda n: {"messages": talk(n)}, "replies/reference_nll", "{{ messages[:-1] }}"),
    "sharegpt": (
        lambda n: {"conversations": sharegpt(n)},
        "replies/reference_nll",
        "{{ conversations[-1].value }}",
    ),
    "alpaca": (
        lambda n: {"instruction": f"Sum up {n}.", "input": "A cat." * (n % 2), "output": LONG},
        "answers/reference_nll",
        "{% if input %}",
    ),
    "pairs": (
        lambda n: {"prompt": f"Hi {n}", "chosen": "Hello!", "rejected": "Go away."},
        "pairs/pair_accuracy",
        '- "{{ rejected }}"',
    ),
    "short": (
        lambda n: {"prompt": f"City {n}?", "completion": f"Paris {n}"},
        "answers/contains",
        "{{ completion }}",
    ),
    "choices": (
        lambda n: {"question": f"Which is {n}?", "choices": [f"a{n}", f"b{n}"], "answer": n % 2},
        "choices/multiple_choice",
        "choices: choices",
    ),
    "gsm8k": (
        lambda n: {"question": f"{n}+{n}?", "answer": f"It is {n}+{n}.\n#### {2 * n}"},
        "results/math_equal",
        "split('####')",
    ),
    "numbers": (
        lambda n: {"question": f"{n}+{n}?", "answer": 2 * n},
        "results/math_equal",
        "{{ answer }}",
    ),
    "code": (
        lambda n: {"statement": f"Write f{n}.", "tests": f"assert f{n}()", "entry_point": f"f{n}"},
        "problems/code_tests",
        "in Python",
    ),
    "json": (
        lambda n: {"message": f"A table for {n}", "intent": json.dumps({"people": n})},
        "objects/json_match",
        "one JSON object",
    ),
    "labels": (
        lambda n: {"text": f"I say {n}", "label": ("good", "bad")[n % 2]},
        "labels/accuracy",
        "bad, good",
    ),
    "prompts": (lambda n: {"prompt": f"Tell me about {n}."}, "replies/refusal", "{{ prompt }}"),
    "passages": (
        lambda n: {"text": f"Once upon a time {n}. " * 20},
        "passages/perplexity",
        'text: "{{ text }}"',
    ),
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_its_suite(
    shape: str, home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    row, metric, part = SHAPES[shape]
    file = write(tmp_path / f"{shape}.jsonl", [row(n) for n in range(30)])
    code, said = ratchet("init", file)
    assert code == 0, said
    assert f"{metric} decides" in said
    assert f"ratchet suites check {tmp_path / shape}.yaml" in said
    written = (tmp_path / f"{shape}.yaml").read_text(encoding="utf-8")
    assert part in written
    suite = load_suite(tmp_path / f"{shape}.yaml")
    assert [name for name, role in suite.roles().items() if role == "required"] == [metric]
    assert len(suite.tasks[0].samples) == 30


def test_without_math_verify_the_last_number_is_compared(
    home: Workspace, tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, _, _ = SHAPES["numbers"]
    file = write(tmp_path / "sums.jsonl", [row(n) for n in range(30)])
    monkeypatch.setattr("harness.suite.draft.importlib.util.find_spec", lambda name: None)
    code, said = ratchet("init", file)
    assert (code, "ratchet-eval[math]" in said) == (0, True)
    (task,) = load_suite(tmp_path / "sums.yaml").tasks
    assert task.metrics[0].spec.name == "exact_match"


def test_tables_are_read_and_chinese_is_asked_in_chinese(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    rows = [
        {
            "\u6587\u672c": f"\u6211\u559c\u6b22\u7b2c{n}\u4e2a",
            "\u6807\u7b7e": "\u597d\u574f"[n % 2],
        }
        for n in range(40)
    ]
    with (tmp_path / "zh.csv").open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "columns.parquet")
    for name in ("zh.csv", "columns.parquet"):
        code, said = ratchet("init", tmp_path / name)
        assert (code, "labels/accuracy decides" in said) == (0, True)
        (task,) = load_suite(tmp_path / f"{name.partition('.')[0]}.yaml").tasks
        assert (
            "\u53ea\u56de\u7b54\u4e0b\u9762\u7684\u4e00\u4e2a"
            in task.samples[0].prompt[0]["content"]
        )


def test_options_say_what_is_meant_and_nothing_is_overwritten(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    rows = [{"a": f"What is {n}?", "b": f"yes {n}", "c": n} for n in range(20)]
    file = write(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "suites/mine.yaml"
    given = ("init", file, "--question", "a", "--answer", "b", "--out", out)
    assert ratchet(*given)[0] == 0
    task = yaml.safe_load(out.read_text())["tasks"]["answers"]
    assert (task["data"], task["reference"]) == ("../rows.jsonl", "{{ b }}")
    before = out.read_text()
    code, said = ratchet(*given)
    assert (code, "--force" in said, out.read_text() == before) == (3, True, True)
    assert ratchet(*given, "--kind", "text", "--force")[0] == 0
    assert "reference_nll: {required: true}" in out.read_text()


def test_at_most_three_questions_are_asked_at_a_terminal(
    home: Workspace, tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    rows = [
        {"title": f"Whale {n}", "question": f"What is {n}?", "b": f"yes {n}"} for n in range(20)
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    monkeypatch.setattr(sys, "stdin", Terminal("\nb\n\n"))
    code, said = ratchet("init", file)
    assert (code, said.count("?"), "answers/contains decides" in said) == (0, 3, True)
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert ratchet("init", file, "--force", "--yes")[0] == 0


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([{"a": [1]}], (), "no column holds texts"),
        ([{"my text": "Hello there"}], (), "can't name the column 'my text'"),
        ([{"true": "Hello there"}], (), "can't name the column 'true'"),
        ([{"chosen": "a", "rejected": "b"}], (), "no column with the question of each pair"),
        ([{"chosen": "a", "rejected": "b"}], ("--kind", "text"), "no column says what is asked"),
        ([{"q": "a"}], ("--question", "x"), "there is no column 'x'"),
        ([{"q": "a"}], ("--kind", "x"), "there is no kind 'x'"),
        ([{"q": "a"}], ("--kind", "label"), "--answer COLUMN"),
        ([{"question": "a", "answer": "b"}] * 2, (), "is used twice"),
        ([{"messages": json.dumps(talk(1))}], (), "no turn of them can be cut off"),
    ],
)
def test_what_makes_no_suite_is_one_message_and_leaves_no_file(
    rows: list[dict[str, Any]],
    options: tuple[str, ...],
    says: str,
    home: Workspace,
    tmp_path: Path,
    ratchet: Ratchet,
) -> None:
    file = write(tmp_path / "rows.jsonl", rows)
    code, said = ratchet("init", file, *options)
    assert (code, says in " ".join(said.split())) == (3, True), said
    assert not list(tmp_path.glob("*.yaml*"))
    assert not list(tmp_path.glob(".*draft"))


def test_the_margin_is_one_that_the_samples_carry() -> None:
    margins = [carried_margin(n) for n in (5, 50, 200, 500, 1500)]
    assert margins == sorted(margins, reverse=True)
    assert (margins[0], margins[-1]) == (MARGINS[-1], 0.05)
