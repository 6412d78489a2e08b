"""What lighteval writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.lighteval import read_lighteval
from harness.store.store import Store
from tests.harness.interop.import_builders import run_named
from tests.harness.suite_builders import Ratchet

STAMP = "2026-12-01T04-10-52.853828"


def detail(number: int, right: bool, **response: Any) -> dict[str, Any]:
    """A row of details, as lighteval 0.13.0 writes it."""
    answer = str(2 * number) if right else "no idea"
    return {
        "doc": {
            "query": f"What is {number}+{number}?",
            "choices": [str(2 * number), "0", "1"],
            "gold_index": 0,
            "instruction": "Be brief.",
            "specific": None,
            "id": str(number),
        },
        "metric": {"em": int(right), "bleu": {"golds": ["4"], "preds": [answer]}},
        "model_response": {"input": None, "text": [answer], "logprobs": [], **response},
    }


def write(folder: Path, rows: list[dict[str, Any]], level: float, **other: Any) -> Path:
    def metric(name: str, how: str) -> dict[str, Any]:
        called = {"sample_level_fn": "Exact(f=<function f at 0x7f00>)", "corpus_level_fn": how}
        return {"metric_name": name, "higher_is_better": True, **called}

    model, stamp = other.pop("model", "tiny"), other.pop("stamp", STAMP)
    settings = {"model_name": model, "generation_parameters": {"temperature": 0, "seed": None}}
    content = {
        "config_general": {"model_name": model, "model_config": settings, "lighteval_sha": "?"},
        "results": {"sums|0": {"em": level, "bleu": 12.5}, "all": {"em": level}},
        "config_tasks": {
            "sums|0": {
                "version": 0,
                "metrics": [metric("em", "mean"), metric("bleu", "CorpusBleu()")],
                **other,
            }
        },
    }
    results, details = folder / "results" / model, folder / "details" / model / stamp
    for one in (results, details):
        one.mkdir(parents=True, exist_ok=True)
    (results / f"results_{stamp}.json").write_text(json.dumps(content), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), details / f"details_sums|0_{stamp}.parquet")
    return folder


def test_scores_prompts_and_answers_are_read(tmp_path: Path, store: Store) -> None:
    rows = [detail(n, n % 4 != 0) for n in range(8)]
    likely = {"text": [], "logprobs": [-9.0, -2.0, -3.0]}
    rows[5] = detail(5, True, **likely)
    imported = read_lighteval(write(tmp_path, rows, 0.75))
    (task,) = imported.tasks
    (metric,) = task.metrics
    assert (task.name, imported.model, metric.name) == ("sums|0", "tiny", "em")
    assert imported.skipped == {"sums|0/bleu": "it is a value of the whole corpus: CorpusBleu()"}
    assert [turn["role"] for turn in task.samples[1].prompt] == ["system", "user"]
    assert (task.samples[2].references, task.answers[1].text) == (("4",), "2")
    assert task.answers[5].text == "0", "the likeliest choice"
    run, new = take_in(store, imported)
    (line,) = summarize(store, run)
    assert (new, line.estimate.value) == (True, pytest.approx(0.75))
    assert run.started_at.isoformat().startswith("2026-12-01T04:10:52")


def test_a_value_that_is_not_the_samples_mean_is_left_out_and_older_results_are_said(
    tmp_path: Path,
) -> None:
    rows = [detail(n, n % 4 != 0) for n in range(8)]
    write(tmp_path, rows, 0.75, stamp="2026-11-01T04-10-52.853828")
    imported = read_lighteval(write(tmp_path, rows, 0.7))
    assert "0.7 is not the mean of its samples (0.75)" in imported.skipped["sums|0/em"]
    assert imported.notes == ("results_2026-11-01T04-10-52.853828.json is left out: it is older",)


def test_two_runs_are_gated_and_another_version_is_another_protocol(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    rows = {k: [detail(n, n % k != 0) for n in range(40)] for k in (8, 2)}
    good, bad = (
        write(tmp_path / "out/good", rows[8], 7 / 8),
        write(tmp_path / "out/bad", rows[2], 1 / 2),
    )
    for place in (good, bad):
        ratchet("import", "lighteval", place, "--run", place.name)
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "FAIL: sums|0/em" in said) == (1, True)
    other = run_named(ratchet("import", "lighteval", write(bad, rows[2], 1 / 2, version=1))[1])
    assert ratchet("gate", other, "--against", "good")[0] not in (0, 1)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    rows = [detail(n, True) for n in range(3)]
    write(tmp_path, rows, 1.0)
    (details,), (results,) = tmp_path.rglob("*.parquet"), tmp_path.rglob("*.json")
    whole = details.read_bytes()
    details.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="not a readable Parquet file") as caught:
        read_lighteval(tmp_path)
    assert str(caught.value.file) == str(details)
    for table, says in (
        ([{"doc": {"id": "0"}, "metric": {"em": 1}}], "not a row of lighteval's details"),
        ([rows[0], rows[0]], "sample 0 is there twice"),
    ):
        pq.write_table(pa.Table.from_pylist(table), details)
        with pytest.raises(UserError, match=says) as caught:
            read_lighteval(tmp_path)
        assert str(caught.value.file) == str(details)
        assert caught.value.line in (1, 2)
    details.unlink()
    with pytest.raises(UserError, match="no details beside these results"):
        read_lighteval(tmp_path)
    results.write_text("{}")
    with pytest.raises(UserError, match="not a results file of lighteval"):
        read_lighteval(tmp_path)
    for model in ("tiny", "other"):
        write(tmp_path, rows, 1.0, model=model)
    with pytest.raises(UserError, match="2 models: other, tiny"):
        read_lighteval(tmp_path)
    for place, says in ((tmp_path / "nowhere", "no such folder"), (results, "this is a file")):
        with pytest.raises(UserError, match=says):
            read_lighteval(place)
