"""What lm-eval, Inspect and a CSV measured becomes runs that the same gate decides.

`tests/data/lm_eval/{a,b}` were written by lm-eval 0.4.13 (two random tiny models over sixteen
documents), `tests/data/inspect` by Inspect 0.3.285 (its mock model).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.lm_eval import read_lm_eval
from harness.store.runs import run_responses
from harness.store.store import Store
from tests.harness.interop.import_builders import LM_EVAL, run_named
from tests.harness.suite_builders import Ratchet

BENCH_PYTHON = Path(__file__).parents[3] / ".venv-bench" / "bin" / "python"


# lm-eval.


@pytest.mark.parametrize("side", ["a", "b"])
def test_every_imported_value_is_the_one_that_lm_eval_reported(side: str, store: Store) -> None:
    run, new = take_in(store, read_lm_eval(LM_EVAL / side))
    reported = json.loads(next((LM_EVAL / side).glob("results_*.json")).read_text())["results"]
    assert new
    lines = {line.metric: line for line in summarize(store, run)}
    assert set(lines) == {
        "capitals_mc/acc",
        "capitals_mc/acc_norm",
        "capitals_gen/exact_match,strict-match",
        "capitals_gen/exact_match,lowercase",
        "capitals_ppl/word_perplexity",
        "capitals_ppl/byte_perplexity",
    }
    for name, line in lines.items():
        task, _, metric = name.partition("/")
        key = metric if "," in metric else f"{metric},none"
        assert line.estimate.value == pytest.approx(reported[task][key], rel=1e-9)
        assert (line.counts.scored, line.counts.total, line.counts.errors) == (16, 16, 0)
    assert lines["capitals_ppl/word_perplexity"].direction == "lower"
    assert lines["capitals_mc/acc"].direction == "higher"


def test_what_is_no_mean_of_its_samples_is_left_out_with_its_reason() -> None:
    skipped = read_lm_eval(LM_EVAL / "a").skipped
    assert "whole corpus" in skipped["capitals_gen/bleu,strict-match"]
    assert "byte_perplexity" in skipped["capitals_ppl/bits_per_byte"]


def test_a_value_that_its_samples_do_not_give_is_left_out(tmp_path: Path) -> None:
    folder = shutil.copytree(LM_EVAL / "a", tmp_path / "a")
    [path] = folder.glob("results_*.json")
    content = json.loads(path.read_text())
    content["results"]["capitals_mc"]["acc,none"] = 0.9
    path.write_text(json.dumps(content))
    assert "not what its samples give" in read_lm_eval(folder).skipped["capitals_mc/acc"]


def test_a_log_likelihood_under_the_name_of_perplexity_is_one(tmp_path: Path, store: Store) -> None:
    """LAMBADA's `perplexity` keeps log-likelihoods, of which *more* is better."""
    folder = shutil.copytree(LM_EVAL / "a", tmp_path / "a")
    [path] = folder.glob("results_*.json")
    [samples] = folder.glob("samples_capitals_mc_*")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    logs = [-1.0 - n / 10 for n in range(len(rows))]
    for row, value in zip(rows, logs, strict=True):
        row["metrics"] = ["perplexity"]
        row["perplexity"] = value
    samples.write_text("\n".join(json.dumps(row) for row in rows))
    content = json.loads(path.read_text())
    content["results"]["capitals_mc"]["perplexity,none"] = math.exp(-sum(logs) / len(logs))
    content["higher_is_better"]["capitals_mc"] = {"perplexity": False}
    path.write_text(json.dumps(content))
    run, _ = take_in(store, read_lm_eval(folder))
    [line] = [line for line in summarize(store, run) if line.metric == "capitals_mc/perplexity"]
    assert line.estimate.value == pytest.approx(math.exp(-sum(logs) / len(logs)))


def test_two_folders_of_lm_evals_are_gated(home: Workspace, ratchet: Ratchet) -> None:
    code, said = ratchet("import", "lm-eval", LM_EVAL / "a")
    assert (code, "left out: capitals_gen/bleu" in said) == (0, True)
    first = run_named(said)
    code, said = ratchet("import", "lm-eval", LM_EVAL / "b", "--run", "the other")
    second = run_named(said)
    assert first != second
    again = ratchet("import", "lm-eval", LM_EVAL / "a")[1]
    assert "It was here already" in again
    assert first in again
    code, said = ratchet("gate", second, "--against", first, "--samples")
    assert code == 1
    assert "FAIL: capitals_ppl/word_perplexity rose" in said
    assert "moved most" in said
    assert "policy: the default" in said
    Path("policy.yaml").write_text(
        "metrics:\n  capitals_mc/acc: {required: true, margin: 0.9}\n"
        "  word_perplexity: {advisory: true}\n  byte_perplexity: {advisory: true}\n",
        encoding="utf-8",
    )
    words = ("gate", second, "--against", first, "--policy", "policy.yaml")
    code, said = ratchet(*words)
    assert (code, "2 advisory metrics: worse; --all shows them" in said) == (2, True)
    code, said = ratchet(*words, "--all")
    assert (code, "(fail)" in said) == (2, True)


def test_a_policy_that_names_no_metric_of_the_runs_is_refused(
    home: Workspace, ratchet: Ratchet
) -> None:
    first = run_named(ratchet("import", "lm-eval", LM_EVAL / "a")[1])
    Path("p.yaml").write_text("gate:\n  metrics:\n    qa/acc: {required: true}\n")
    code, said = ratchet("gate", first, "--against", first, "--policy", "p.yaml")
    assert (code, "p.yaml:3" in said, "gate.metrics.qa/acc" in said) == (3, True, True)


def test_answers_and_documents_are_kept_beside_the_scores(store: Store) -> None:
    run, _ = take_in(store, read_lm_eval(LM_EVAL / "a"))
    assert {response.task for response in run_responses(store, run.id)} == {"capitals_gen"}
    rows = store.query("SELECT task, count(*) AS n FROM samples GROUP BY task ORDER BY task")
    assert [row["n"] for row in rows] == [16, 16, 16]


def test_other_documents_are_incomparable(
    tmp_path: Path, home: Workspace, ratchet: Ratchet
) -> None:
    folder = shutil.copytree(LM_EVAL / "b", tmp_path / "b")
    [samples] = folder.glob("samples_capitals_mc_*")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows[3]["doc_hash"] = "another"
    samples.write_text("\n".join(json.dumps(row) for row in rows))
    runs = [run_named(ratchet("import", "lm-eval", place)[1]) for place in (LM_EVAL / "a", folder)]
    code, said = ratchet("gate", runs[1], "--against", runs[0])
    assert (code, "capitals_mc.data.documents" in said) == (3, True)


def test_torn_and_foreign_folders_of_lm_eval_are_named(tmp_path: Path) -> None:
    folder = shutil.copytree(LM_EVAL / "a", tmp_path / "a")
    [samples] = folder.glob("samples_capitals_mc_*")
    text = samples.read_text()
    samples.write_text(text[: len(text) - 40])
    with pytest.raises(UserError) as torn:
        read_lm_eval(folder)
    assert (torn.value.file, torn.value.line) == (str(samples), 16)
    samples.write_text("\n".join(text.splitlines()[:15]))
    with pytest.raises(UserError, match="15 samples are here"):
        read_lm_eval(folder)
    samples.write_text('{"doc_id": "x", "metrics": []}\n')
    with pytest.raises(UserError, match="no doc_id"):
        read_lm_eval(folder)
    for path in folder.glob("samples_*"):
        path.unlink()
    with pytest.raises(UserError, match="--log_samples"):
        read_lm_eval(folder)
    with pytest.raises(UserError, match=r"no results_\*\.json"):
        read_lm_eval(_empty(tmp_path))
    with pytest.raises(UserError, match="several models: a, b"):
        read_lm_eval(LM_EVAL)


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.long
@pytest.mark.skipif(not BENCH_PYTHON.exists(), reason="lm-eval has no environment here")
def test_lm_eval_of_today_writes_what_is_read_here(
    tmp_path: Path, tiny_llama: Path, home: Workspace, ratchet: Ratchet
) -> None:
    from tests.tiny import save_tiny_llama

    (tmp_path / "docs.jsonl").write_text(
        "\n".join(json.dumps({"text": f"The {n}. dog does not mind the fox."}) for n in range(8))
    )
    (tmp_path / "dogs.yaml").write_text(
        f"task: dogs\ndataset_path: json\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'docs.jsonl'}}}}}\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n"
        "metadata: {version: 1.0}\n"
    )
    other = save_tiny_llama(tmp_path / "other", seed=11, initializer_range=0.6)
    runs = []
    for model in (tiny_llama, other):
        out = tmp_path / f"out-{model.name}"
        subprocess.run(
            [
                str(BENCH_PYTHON), "-m", "lm_eval", "--model", "hf", "--device", "cpu",
                "--model_args", f"pretrained={model},dtype=float32", "--batch_size", "4",
                "--tasks", "dogs", "--include_path", str(tmp_path), "--output_path", str(out),
                "--log_samples",
            ],
            check=True,
            capture_output=True,
            env={"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                 "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        code, said = ratchet("import", "lm-eval", out)
        assert code == 0, said
        runs.append(run_named(said))
    codes = {
        ratchet("gate", runs[0], "--against", runs[1])[0],
        ratchet("gate", runs[1], "--against", runs[0])[0],
    }
    assert codes == {0, 1}


def test_a_waiver_holds_until_its_last_day(home: Workspace, ratchet: Ratchet) -> None:
    first, second = (run_named(ratchet("import", "lm-eval", LM_EVAL / side)[1]) for side in "ab")
    for expires, code in (("2999-12-31", 2), ("2020-01-01", 1)):
        waiver = f"{{waiver: {{reason: a known regression, expires: {expires}}}}}"
        Path("p.yaml").write_text(
            f"metrics:\n  word_perplexity: {waiver}\n  byte_perplexity: {waiver}\n"
        )
        got, said = ratchet("gate", second, "--against", first, "--policy", "p.yaml")
        assert got == code, said
        assert ("is waived: a known regression" if code == 2 else "has ended") in said
