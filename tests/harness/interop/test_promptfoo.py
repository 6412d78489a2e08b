"""What promptfoo writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.promptfoo import read_promptfoo
from harness.store.store import Store
from tests.harness.interop.import_builders import run_named
from tests.harness.suite_builders import Ratchet


def result(number: int, right: bool, **other: Any) -> dict[str, Any]:
    """A result of one test, as promptfoo 0.121.20 writes it."""
    return {
        "testIdx": number,
        "promptIdx": 0,
        "prompt": {"raw": f"{number}\u52a0{number}?", "label": "{{n}}\u52a0{{n}}?"},
        "provider": {"id": "file://model.js", "label": "tiny"},
        "vars": {"n": number},
        "testCase": {"vars": {"n": number}, "assert": [{"type": "equals", "metric": "right"}]},
        "response": {"output": str(2 * number) if right else "no idea"},
        "score": float(right),
        "success": right,
        "namedScores": {"right": int(right)},
        "failureReason": 0 if right else 1,
        **({} if right else {"error": "Expected output to equal"}),
        **other,
    }


def write(path: Path, results: list[dict[str, Any]], **other: Any) -> Path:
    stats = {"successes": len(results), "failures": 0, "errors": 0}
    summary = {"version": 3, "timestamp": "2026-12-01T02:36:30.370Z", "results": results}
    content = {"results": {**summary, "stats": stats}, "config": {"description": "sums"}, **other}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_passes_scores_prompts_and_answers_are_read(tmp_path: Path, store: Store) -> None:
    failed = result(8, False, response={"error": "timeout"}, failureReason=2, namedScores={})
    chat = result(9, True, prompt={"raw": '[{"role": "system", "content": "Be brief."}]'})
    rows = [*(result(n, n % 4 != 0) for n in range(8)), failed, chat]
    imported = read_promptfoo(write(tmp_path / "a.json", rows))
    (task,) = imported.tasks
    assert (task.name, imported.model) == ("sums", "tiny")
    assert task.samples[3].prompt == ({"role": "user", "content": "3\u52a03?"},)
    assert task.samples[9].prompt == ({"role": "system", "content": "Be brief."},)
    assert task.answers[8].error == "timeout"
    passed, score, right = task.metrics
    assert [m.name for m in task.metrics] == ["pass", "score", "right"]
    assert {m.points[8].outcome for m in (passed, score, right)} == {ScoreOutcome.ERROR}
    assert (right.points[0].value, right.points[1].value) == (0, 1)
    run, _ = take_in(store, imported)
    assert {line.counts.scored for line in summarize(store, run)} == {9}


def test_two_files_are_gated(home: Workspace, tmp_path: Path, ratchet: Ratchet) -> None:
    good, bad = (
        run_named(ratchet("import", "promptfoo", place)[1])
        for place in (
            write(tmp_path / "good.json", [result(n, n % 8 != 0) for n in range(40)]),
            write(tmp_path / "bad.json", [result(n, n % 2 != 0) for n in range(40)]),
        )
    )
    code, said = ratchet("gate", bad, "--against", good)
    assert (code, "FAIL: sums/" in said) == (1, True)


def test_an_imported_run_is_found_by_its_name_alone(
    home: Workspace, tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, k in (("good", 8), ("bad", 2)):
        place = write(tmp_path / f"{name}.json", [result(n, n % k != 0) for n in range(40)])
        ratchet("import", "promptfoo", place, "--run", name)
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "FAIL: sums/" in said) == (1, True)
    (tmp_path / "bad").mkdir()
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "./bad or run:" in said) == (3, True)
    write(tmp_path / "good.json", [result(n, True) for n in range(40)])
    ratchet("import", "promptfoo", tmp_path / "good.json", "--run", "good")
    code, said = ratchet("gate", "./bad", "--against", "good")
    assert (code, "several runs were imported as 'good'" in said) == (3, True)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    rows = [result(n, True) for n in range(3)]
    path = write(tmp_path / "a.json", rows)
    whole = path.read_text(encoding="utf-8")
    for text, says in (
        ("", "this is not JSON"),
        (whole[:-40], "this is not JSON"),
        ("[]", "not results of promptfoo"),
        ('{"results": {"results": []}}', "holds no results"),
        (whole.replace('"successes": 3', '"successes": 9'), "3 results are here, and .* counted 9"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says) as caught:
            read_promptfoo(path)
        assert str(caught.value.file) == str(path)
    other = result(3, True, provider={"id": "openai:x", "label": None})
    with pytest.raises(UserError, match="2 providers: tiny, openai:x"):
        read_promptfoo(write(path, [*rows, other]))
    with pytest.raises(UserError, match="test 0 is there twice"):
        read_promptfoo(write(path, [*rows, rows[0]]))
