"""What EvalScope writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.evalscope import read_evalscope
from harness.store.runs import run_responses
from harness.store.store import Store
from tests.harness.interop.import_builders import run_named
from tests.harness.suite_builders import Ratchet

CONFIG = {
    "model": "tiny",
    "model_id": "tiny",
    "eval_type": "openai_api",
    "evalscope_version": "1.14.1",
    "generation_config": {"batch_size": 8, "temperature": 0.0},
    "repeats": 1,
}


def review(number: int, right: bool, group: int | None = None, **score: Any) -> dict[str, Any]:
    """A line of a file of reviews, as EvalScope 1.14.1 writes it."""
    asked = (
        f"{number}\u52a0{number}\u7b49\u4e8e\u51e0\uff1f"
        if number % 2
        else f"What is {number}+{number}?"
    )
    answer = str(2 * number) if right else "no idea"
    return {
        "index": number,
        "target": [str(2 * number)],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": asked}]},
            {"role": "assistant", "content": answer},
        ],
        "sample_score": {
            "score": {
                "value": {"accuracy": float(right), "wer": 1 - float(right)},
                "status": "success",
                "prediction": answer,
                "metadata": {},
                **score,
            },
            "sample_id": number,
            "group_id": number if group is None else group,
        },
    }


def metric(name: str, direction: str, score: float) -> dict[str, Any]:
    return {
        "identity": {"name": name, "aggregation": "mean", "dimensions": {}},
        "categories": [{"subsets": [{"name": "main", "score": score}]}],
        "semantics": {
            "semantic_id": f"quality.{name}.ratio",
            "direction": direction,
            "value_range": {"min": 0.0, "max": 1.0},
        },
    }


def write(folder: Path, rows: list[dict[str, Any]], level: float, model: str = "tiny") -> Path:
    for part in ("reviews", "reports"):
        (folder / part / model).mkdir(parents=True, exist_ok=True)
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs/task_config.yaml").write_text(yaml.safe_dump(CONFIG))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "reviews" / model / "sums_main.jsonl").write_text(lines, encoding="utf-8")
    metrics = [
        metric("accuracy", "higher_is_better", level),
        metric("wer", "lower_is_better", 1 - level),
    ]
    (folder / "reports" / model / "sums.json").write_text(json.dumps({"metrics": metrics}))
    return folder


def test_scores_directions_prompts_and_answers_are_read(tmp_path: Path, store: Store) -> None:
    folder = write(tmp_path / "a", [review(n, n % 4 != 0) for n in range(12)], 0.75)
    imported = read_evalscope(folder)
    (task,) = imported.tasks
    assert (task.name, imported.model, imported.notes) == ("sums_main", "tiny", ())
    assert task.samples[1].prompt[1]["content"] == "1\u52a01\u7b49\u4e8e\u51e0\uff1f"
    assert task.samples[1].references == ("2",)
    run, new = take_in(store, imported)
    lines = {line.metric: line for line in summarize(store, run)}
    assert new
    assert lines["sums_main/accuracy"].estimate.value == pytest.approx(0.75)
    assert lines["sums_main/wer"].direction == "lower"
    assert len(run_responses(store, run.id)) == 12
    assert not take_in(store, read_evalscope(tmp_path))[1], "the folder above has only this run"


def test_repeats_are_responses_and_failures_are_no_zeros(tmp_path: Path, store: Store) -> None:
    rows = [review(n, n % 3 != 0, group=n // 2) for n in range(8)]
    rows[1]["sample_score"]["score"]["metadata"] = {"metric_errors": {"WER": "no tokenizer"}}
    rows[2]["sample_score"]["score"].update(status="error", explanation="timeout\nat line 3")
    imported = read_evalscope(write(tmp_path, rows, 0.75))
    accuracy, wer = imported.tasks[0].metrics
    assert [(p.sample_id, p.index) for p in accuracy.points[:3]] == [("0", 0), ("0", 1), ("1", 0)]
    assert (accuracy.points[2].value, accuracy.points[2].reason) == (None, "timeout")
    assert "could not compute WER: no tokenizer" in str(wer.points[1].reason)
    assert accuracy.points[1].value == 1
    assert any("EvalScope reported 0.75 for sums_main/accuracy" in note for note in imported.notes)


def test_two_runs_are_gated_and_another_temperature_is_another_protocol(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    places = [
        write(tmp_path / name, [review(n, n % k != 0) for n in range(40)], 1 - 1 / k)
        for name, k in (("good", 8), ("bad", 2))
    ]
    good, bad = (run_named(ratchet("import", "evalscope", place)[1]) for place in places)
    code, said = ratchet("gate", bad, "--against", good)
    assert (code, "FAIL: sums_main/" in said) == (1, True)
    config = {**CONFIG, "generation_config": {"temperature": 0.9}}
    (places[1] / "configs/task_config.yaml").write_text(yaml.safe_dump(config))
    other = run_named(ratchet("import", "evalscope", places[1])[1])
    assert ratchet("gate", other, "--against", good)[0] not in (0, 1)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    rows = [review(n, True) for n in range(3)]
    reviews = write(tmp_path, rows, 1.0) / "reviews/tiny/sums_main.jsonl"
    whole = reviews.read_text(encoding="utf-8")
    for text, says in (
        ("", "holds no reviews"),
        (whole[:-40], "this is not JSON"),
        ("[]\n", "not a JSON object"),
        ('{"index": 0}\n', "not a review of EvalScope"),
    ):
        reviews.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says) as caught:
            read_evalscope(tmp_path)
        assert str(caught.value.file) == str(reviews)
    reviews.write_text(whole, encoding="utf-8")
    (tmp_path / "reports/tiny/sums.json").unlink()
    with pytest.raises(UserError, match="didn't finish"):
        read_evalscope(tmp_path)
    write(tmp_path, rows, 1.0, model="other")
    with pytest.raises(UserError, match="2 models were evaluated here: other, tiny"):
        read_evalscope(tmp_path)
    for place, says in (
        (tmp_path / "nowhere", "no such folder"),
        (reviews, "this is a file"),
        (tmp_path / "reports", "reviewed nothing here"),
    ):
        with pytest.raises(UserError, match=says):
            read_evalscope(place)
