"""What NeMo Evaluator writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.nemo import RECORDS, read_nemo
from harness.store.store import Store
from tests.harness.interop.import_builders import run_named
from tests.harness.suite_builders import Ratchet


def prediction(number: int, right: bool, repeat: int = 0, **other: Any) -> dict[str, Any]:
    """A line of predictions, as NeMo Evaluator 0.2.8 writes it."""
    answer = str(2 * number) if right else "no idea"
    return {
        "sample_id": number + 4 * repeat,
        "prompt": f"{number}\u52a0{number}\u7b49\u4e8e\u51e0\uff1f",
        "response": answer,
        "target": str(2 * number),
        "scores": {"correct": right, "length": len(answer), "kind": "words"},
        "status": "scored",
        "error": None,
        "metadata": {"n": number, **({"_repeat": repeat} if repeat else {})},
        **other,
    }


def skipped(number: int) -> dict[str, Any]:
    gone = {"response": None, "scores": None, "status": "skipped_model_error", "error": "400\nBad"}
    return prediction(number, True, **gone)


def write(folder: Path, rows: list[dict[str, Any]], level: float | None, **params: Any) -> Path:
    own = folder / "sums"
    own.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (own / "byob_predictions.jsonl").write_text(lines, encoding="utf-8")
    scored = [row for row in rows if row["scores"]]
    found = {"value": level, "stats": {"count": len(scored)}}
    tasks = {"sums": {"metrics": {"pass@1": {"scores": {"correct": found}}}}}
    (own / "byob_results.json").write_text(json.dumps({"tasks": tasks}))
    target = {"api_endpoint": {"model_id": "tiny", "type": "chat"}}
    config = {"type": "sums", "params": {"temperature": 0.0, "parallelism": 8, **params}}
    (folder / "results.yml").write_text(yaml.safe_dump({"target": target, "config": config}))
    return folder


def test_scores_prompts_answers_and_failures_are_read(tmp_path: Path, store: Store) -> None:
    rows = [*(prediction(n, n % 4 != 0) for n in range(8)), skipped(8)]
    imported = read_nemo(write(tmp_path, rows, 0.75), lower=["length"])
    (task,) = imported.tasks
    assert (task.name, imported.model, imported.notes) == ("sums", "tiny", ())
    assert [(m.name, m.direction) for m in task.metrics] == [
        ("correct", "higher"),
        ("length", "lower"),
    ]
    assert (task.samples[3].references, task.answers[3].text) == (("6",), "6")
    failed = task.metrics[0].points[8]
    assert (failed.outcome, failed.reason) == (ScoreOutcome.ERROR, "400 Bad")
    run, _ = take_in(store, imported)
    lines = {line.metric: line for line in summarize(store, run)}
    assert lines["sums/correct"].estimate.value == pytest.approx(0.75)


def test_repeats_are_responses(tmp_path: Path) -> None:
    rows = [prediction(n, n > repeat, repeat) for repeat in range(2) for n in range(4)]
    (task,) = read_nemo(write(tmp_path, rows, 0.625)).tasks
    places = [(p.sample_id, p.index, p.value) for p in task.metrics[0].points]
    assert places[1:6:4] == [("1", 0, 1.0), ("1", 1, 0.0)]
    assert len(task.samples) == 4


def test_records_of_samples_are_read_as_documented(tmp_path: Path) -> None:
    (tmp_path / RECORDS).mkdir()
    record = {"id": "a", "generation": "4", "score": 1, "score_name": "symbolic_correct"}
    rows = [
        {**record, "query": "2+2?", "answer": "4", "ground_truth": 4},
        {**record, "id": "b", "score": None, "query": {"content": "think"}},
        {**record, "id": "c", "score": 0, "query": "2+3?", "ground_truth": 5},
    ]
    file = tmp_path / RECORDS / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="which model was measured"):
        read_nemo(tmp_path)
    (task,) = read_nemo(tmp_path, name="tiny").tasks
    (metric,) = task.metrics
    assert metric.name == "symbolic_correct"
    assert [(p.sample_id, p.value) for p in metric.points] == [("a", 1.0), ("c", 0.0)]
    assert (task.samples[1].prompt[0]["content"], task.samples[0].references) == ("think", ("4",))


def test_two_runs_are_gated_and_another_temperature_is_another_protocol(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    rows = {k: [prediction(n, n % k != 0) for n in range(40)] for k in (8, 2)}
    good, bad = (
        write(tmp_path / "out/good", rows[8], 7 / 8),
        write(tmp_path / "out/bad", rows[2], 1 / 2),
    )
    for place in (good, bad):
        ratchet("import", "nemo", place, "--run", place.name)
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "FAIL: sums/correct" in said) == (1, True)
    other = run_named(ratchet("import", "nemo", write(bad, rows[2], 1 / 2, temperature=0.9))[1])
    assert ratchet("gate", other, "--against", "good")[0] not in (0, 1)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    rows = [prediction(n, True) for n in range(3)]
    file = write(tmp_path, rows, 1.0) / "sums/byob_predictions.jsonl"
    whole = file.read_text(encoding="utf-8")
    for text, says in (
        ("", "holds no samples"),
        (whole[:-40], "this is not JSON"),
        ('{"prompt": ""}\n', "not a sample of NeMo"),
        (json.dumps({**rows[0], "scores": 1}) + "\n", "not a sample of NeMo"),
        (whole + json.dumps(rows[0]) + "\n", "sample 0 is there twice"),
        (json.dumps(rows[0]) + "\n", "1 scores of correct are here, and NeMo counted 3"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says) as caught:
            read_nemo(tmp_path)
        assert str(caught.value.file) == str(file)
    file.write_text(whole, encoding="utf-8")
    (tmp_path / "results.yml").write_text("a: [")
    with pytest.raises(UserError, match="this is not YAML"):
        read_nemo(tmp_path)
    for place, says in (
        (tmp_path / "nowhere", "no such folder"),
        (file, "this is a file"),
        (tmp_path.parent / "empty", "neither a byob_predictions.jsonl"),
    ):
        (tmp_path.parent / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=says):
            read_nemo(place)
