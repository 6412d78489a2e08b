"""What OpenCompass writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.opencompass import read_opencompass
from harness.store.store import Store
from tests.harness.suite_builders import Ratchet


def predicted(number: int, right: bool) -> dict[str, Any]:
    """An entry of predictions, in the shape of OpenCompass 0.5.4."""
    return {
        "origin_prompt": [
            {"role": "SYSTEM", "prompt": "Be brief."},
            {"role": "HUMAN", "prompt": f"{number}\u52a0{number}\uff1f"},
        ],
        "prediction": f"It is {2 * number if right else 'hard'}.",
        "gold": str(2 * number),
    }


def detail(number: int, *rights: bool) -> dict[str, Any]:
    """An entry of details: an evaluator's verdict, once for each time the sample was asked."""
    return {
        "example_abbr": f"sums_{number}",
        "pred": [str(2 * number)] * len(rights),
        "answer": [str(2 * number)] * len(rights),
        "correct": list(rights),
    }


def write(folder: Path, rights: list[bool], model: str = "tiny") -> Path:
    asked = {str(n): predicted(n, right) for n, right in enumerate(rights)}
    details = [detail(n, right) for n, right in enumerate(rights)]
    return put(folder, asked, details, 100 * sum(rights) / len(rights), model)


def put(folder: Path, asked: Any, details: Any, level: float, model: str = "tiny") -> Path:
    contents = {"predictions": asked, "results": {"accuracy": level, "details": details}}
    for part, content in contents.items():
        (folder / part / model).mkdir(parents=True, exist_ok=True)
        file = folder / part / model / "sums.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def test_verdicts_prompts_and_answers_are_read(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "20261201_041052", [n % 4 != 0 for n in range(12)])
    rouge = tmp_path / "20261201_041052/results/tiny/rouge.json"
    rouge.write_text('{"rouge1": 31.5}')
    unjudged = {"type": "GEN", "0": {"prompt": [], "predictions": "a", "references": "b"}}
    rouge.with_name("em.json").write_text(json.dumps({"score": 0.0, "details": unjudged}))
    imported = read_opencompass(tmp_path)
    (task,) = imported.tasks
    assert (task.name, imported.model, imported.notes) == ("sums", "tiny", ())
    assert "--dump-eval-details" in imported.skipped["rouge"]
    assert imported.skipped["em"] == "its evaluator gives no verdicts by samples"
    assert [turn["role"] for turn in task.samples[1].prompt] == ["system", "user"]
    assert (task.samples[1].references, task.answers[1].text) == (("2",), "It is 2.")
    run, _ = take_in(store, imported)
    (line,) = summarize(store, run)
    assert (line.metric, line.estimate.value) == ("sums/accuracy", pytest.approx(0.75))


def test_repeats_are_responses_and_older_shapes_are_read(tmp_path: Path) -> None:
    asked = {str(n): predicted(n % 2, True) for n in range(4)}
    details = [detail(0, True, False), detail(1, True, True)]
    (task,) = read_opencompass(put(tmp_path / "a", asked, details, 75.0)).tasks
    assert [(p.sample_id, p.index, p.value) for p in task.metrics[0].points][:2] == [
        ("sums_0", 0, 1.0),
        ("sums_0", 1, 0.0),
    ]
    assert [(one.sample_id, one.index) for one in task.answers][1:3] == [
        ("sums_0", 1),
        ("sums_1", 0),
    ]
    old = {"type": "PPL", "0": {"predictions": "A", "references": "A", "correct": True}}
    put(tmp_path / "b", {"0": {"origin_prompt": "1?", "prediction": "A"}}, old, 100.0)
    part = tmp_path / "b/predictions/tiny/sums.json"
    part.rename(part.with_name("sums_0.json"))
    (task,) = read_opencompass(tmp_path / "b").tasks
    assert task.samples[0].prompt == ({"role": "user", "content": "1?"},)
    assert task.metrics[0].points[0].value == 1
    part.with_name("sums_0.json").unlink()
    (note,) = read_opencompass(tmp_path / "b").notes
    assert "no predictions beside it" in note


def test_two_runs_are_gated(home: Workspace, tmp_path: Path, ratchet: Ratchet) -> None:
    for name, k in (("good", 8), ("bad", 2)):
        place = write(tmp_path / "out" / name, [n % k != 0 for n in range(40)])
        ratchet("import", "opencompass", place, "--run", name)
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "FAIL: sums/accuracy" in said) == (1, True)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [True, False, True])
    results, asked = (folder / part / "tiny/sums.json" for part in ("results", "predictions"))
    whole = results.read_text(encoding="utf-8"), asked.read_text(encoding="utf-8")
    for file, text, says in (
        (results, "[]", "not results of OpenCompass"),
        (results, whole[0][:-9], "this is not JSON"),
        (results, '{"error": "preds and refrs have different length"}', "could not evaluate it"),
        (results, '{"details": [3]}', "not a sample of OpenCompass"),
        (results, json.dumps({"details": [detail(0, True)] * 2}), "sums_0 is there twice"),
        (results, json.dumps({"details": [detail(0, True)]}), "1 verdicts are here, and 3 predict"),
        (asked, '{"1": {}}', "not predictions of OpenCompass"),
    ):
        results.write_text(whole[0], encoding="utf-8")
        asked.write_text(whole[1], encoding="utf-8")
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says) as caught:
            read_opencompass(folder)
        assert str(caught.value.file) == str(file)
    write(folder, [True], model="other")
    with pytest.raises(UserError, match="2 models were evaluated here: other, tiny"):
        read_opencompass(folder)
    for place, says in (
        (tmp_path / "nowhere", "no such folder"),
        (results, "this is a file"),
        (folder / "results", "evaluated nothing here"),
    ):
        with pytest.raises(UserError, match=says):
            read_opencompass(place)
