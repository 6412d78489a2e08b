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

from harness.errors import UserError
from harness.evidence import summarise
from harness.importers.common import take_in
from harness.importers.csv_scores import read_csv
from harness.importers.inspect_log import read_inspect
from harness.importers.lm_eval import read_lm_eval
from harness.runs import run_responses
from harness.store import Store
from harness.workspace import Workspace
from tests.harness.worlds import Ratchet

DATA = Path(__file__).parents[1] / "data"
LM_EVAL, INSPECT = DATA / "lm_eval", DATA / "inspect"
BENCH_PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"

HEADER = "task,metric,direction,sample_id,value"


def run_named(said: str) -> str:
    """The run that an import says is here."""
    return said[: said.index(" is here; next:")].rpartition(" ")[2]


def write_csv(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "scores.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# lm-eval.


@pytest.mark.parametrize("side", ["a", "b"])
def test_every_imported_value_is_the_one_that_lm_eval_reported(side: str, store: Store) -> None:
    run, new = take_in(store, read_lm_eval(LM_EVAL / side))
    reported = json.loads(next((LM_EVAL / side).glob("results_*.json")).read_text())["results"]
    assert new
    lines = {line.metric: line for line in summarise(store, run)}
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
        assert line.value == pytest.approx(reported[task][key], rel=1e-9)
        assert (line.scored, line.total, line.errors) == (16, 16, 0)
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
    [line] = [line for line in summarise(store, run) if line.metric == "capitals_mc/perplexity"]
    assert line.value == pytest.approx(math.exp(-sum(logs) / len(logs)))


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
    code, said = ratchet("gate", second, "--against", first, "--policy", "policy.yaml")
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


# Inspect.


@pytest.mark.parametrize(("log", "level"), [("good", 0.875), ("bad", 0.5)])
def test_an_inspect_log_gives_what_inspect_reported(log: str, level: float, store: Store) -> None:
    run, _ = take_in(store, read_inspect(INSPECT / f"{log}.eval", lower=["length"]))
    lines = {line.metric: line for line in summarise(store, run)}
    assert lines["capitals/match"].value == pytest.approx(level)
    assert lines["capitals/style.short"].value == pytest.approx(level)
    assert lines["capitals/length"].direction == "lower"
    assert lines["capitals/match"].direction == "higher"
    assert {line.scored for line in lines.values()} == {16}
    counts = store.query("SELECT count(*) AS n FROM scores WHERE metric = 'match'")
    assert counts == [{"n": 32}], "two epochs of sixteen samples"
    assert len(run_responses(store, run.id)) == 32


def test_a_json_log_is_the_same_thing(store: Store) -> None:
    run, _ = take_in(store, read_inspect(INSPECT / "small.json"))
    assert run.model == "mockllm/good"
    assert {line.scored for line in summarise(store, run)} == {2}


def test_inspect_logs_are_gated(home: Workspace, ratchet: Ratchet) -> None:
    said = [ratchet("import", "inspect", INSPECT / f"{n}.eval") for n in ("good", "bad")]
    good, bad = (run_named(text) for _, text in said)
    code, text = ratchet("gate", bad, "--against", good)
    assert (code, "FAIL: capitals/" in text) == (1, True)
    code, text = ratchet("import", "inspect", INSPECT / "good.eval", "--lower", "lenght")
    assert (code, "no metric 'lenght'" in text) == (3, True)


def test_logs_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.eval"
    torn.write_bytes((INSPECT / "good.eval").read_bytes()[:40_000])
    with pytest.raises(UserError, match="no log of Inspect"):
        read_inspect(torn)
    content = json.loads((INSPECT / "small.json").read_text())
    for change, says in (
        ({"status": "cancelled"}, "ended as 'cancelled'"),
        ({"samples": []}, "holds no samples"),
        ({"samples": content["samples"][:1]}, "1 samples are here"),
    ):
        path = tmp_path / "log.json"
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=says):
            read_inspect(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no log of Inspect"):
        read_inspect(path)
    with pytest.raises(UserError, match="no such file"):
        read_inspect(tmp_path / "nothing.eval")


def test_an_errored_sample_is_an_error_and_a_nan_is_unscored(tmp_path: Path, store: Store) -> None:
    content = json.loads((INSPECT / "small.json").read_text())
    first, second, *_ = content["samples"]
    first.update(error={"message": "the sandbox died\nat line 3"}, scores={})
    second["scores"]["match"]["value"] = math.nan
    path = tmp_path / "log.json"
    path.write_text(json.dumps(content))
    run, _ = take_in(store, read_inspect(path))
    rows = store.query(
        "SELECT DISTINCT sample_id, outcome, reason FROM scores "
        "WHERE run_id = ? AND metric = 'match' AND value IS NULL ORDER BY ALL",
        [run.id],
    )
    assert {(row["sample_id"], row["outcome"], row["reason"]) for row in rows} == {
        (first["id"], "error", "the sandbox died"),
        (second["id"], "unscored", "Inspect left it unscored"),
    }


# CSV.


def test_a_csv_in_a_minute(home: Workspace, tmp_path: Path, ratchet: Ratchet) -> None:
    runs = []
    for name, wrong in (("ours", 3), ("theirs", 60)):
        rows = [f"qa,exact_match,higher,q{n},{int(n >= wrong)}" for n in range(200)]
        path = write_csv(tmp_path, rows)
        code, said = ratchet("import", "csv", path, "--run", name)
        assert code == 0, said
        runs.append(run_named(said))
    code, said = ratchet("gate", runs[1], "--against", runs[0])
    assert (code, "fell from 0.985 to 0.700 on 200 samples" in said) == (1, True)
    assert ratchet("gate", runs[0], "--against", runs[0])[0] == 0
    assert "theirs" in ratchet("runs")[1]


def test_responses_clusters_and_scales(tmp_path: Path, store: Store) -> None:
    rows = [
        f"chat,reward,higher,s{n},{value},{k},author {n % 3},interval"
        for n in range(9)
        for k, value in enumerate((-1.5, 0.25 * n))
    ]
    path = write_csv(tmp_path, rows, f"{HEADER},response,cluster,scale")
    run, _ = take_in(store, read_csv(path, name="x"))
    from harness.evidence import metric_scores

    scores = metric_scores(store, run)["chat/reward"]
    assert scores.scale == "interval"
    assert scores.responses == 2
    assert set(scores.clusters.values()) == {"author 0", "author 1", "author 2"}
    assert scores.values["s4"] == pytest.approx((-1.5 + 1.0) / 2)


def test_an_empty_value_is_an_error_never_a_zero(tmp_path: Path, store: Store) -> None:
    path = write_csv(tmp_path, ["qa,em,higher,a,1", "qa,em,higher,b,"])
    run, _ = take_in(store, read_csv(path, name="x"))
    [line] = summarise(store, run)
    assert (line.value, line.scored, line.total, line.errors) == (1.0, 1, 2, 1)


def test_missing_samples_are_named_by_the_gate(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    runs = []
    for last in (50, 48):
        path = write_csv(tmp_path, [f"qa,em,higher,q{n},1" for n in range(last)])
        said = ratchet("import", "csv", path, "--run", f"r{last}")[1]
        runs.append(run_named(said))
    code, said = ratchet("gate", runs[1], "--against", runs[0])
    assert (code, "no value for 2 samples (q48, q49)" in said) == (3, True)


@pytest.mark.parametrize(
    ("rows", "line", "field", "says"),
    [
        (["qa,em,higher,a,1", "qa,em,up,b,1"], 3, "direction", "no direction"),
        (["qa,em,higher,a,NaN"], 2, "value", "no finite number"),
        (["qa,em,higher,a,one"], 2, "value", "no finite number"),
        (["qa,em,higher,a,-1"], 2, "value", "below 0"),
        (["qa,em,higher,a,1", "qa,em,lower,b,1"], 3, "direction", "another direction on line 2"),
        (["qa,em,higher,a,1", "", "qa,em,higher,a,0"], 4, None, "on line 2 already"),
        (["qa,em,higher,,1"], 2, "sample_id", "sample_id is empty"),
        (["qa,em,higher,a"], 2, None, "as many cells"),
        (["qa,em,higher,a,1,2"], 2, None, "as many cells"),
        ([], None, None, "no rows"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, rows: list[str], line: int | None, field: str | None, says: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        read_csv(write_csv(tmp_path, rows), name="x")
    assert (refused.value.line, refused.value.field or None) == (line, field)


@pytest.mark.parametrize(
    ("header", "says"),
    [("task,metric,sample_id,value", "lacks direction"), (f"{HEADER},clusters", "clusters")],
)
def test_a_bad_header_is_named(tmp_path: Path, header: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        read_csv(write_csv(tmp_path, ["x"], header), name="x")
    assert refused.value.line == 1


# The verb.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lm-eval"], "what is to be imported from lm-eval?"),
        (["lmeval", "dir"], "'lmeval' is no format"),
        (["csv", "x.csv"], "name it: --run NAME"),
        (["csv", "x.csv", "--run", "x"], "no such file"),
        (["inspect", "x.eval"], "no such file"),
        (["lm-eval", "nowhere"], "no such folder"),
        (["nowhere"], "there is no bundle here"),
        (["bundle", "nowhere"], "there is no bundle here"),
        (["nowhere", "--run", "x"], "leave --run out"),
        (["lm-eval", "x", "--lower", "y"], "leave --lower out"),
    ],
)
def test_what_can_be_wrong_with_an_import_is_said(
    words: list[str], says: str, home: Workspace, ratchet: Ratchet
) -> None:
    code, said = ratchet("import", *words)
    assert (code, says in said) == (3, True), said


def test_an_imported_run_travels_as_a_bundle(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    runs = {}
    for side in ("a", "b"):
        said = ratchet("import", "lm-eval", LM_EVAL / side)[1]
        runs[side] = run_named(said)
        assert ratchet("export", runs[side], tmp_path / side)[0] == 0
    elsewhere = ("--home", tmp_path / "elsewhere")
    code, said = ratchet(
        "gate", f"bundle:{tmp_path / 'b'}", "--against", f"bundle:{tmp_path / 'a'}",
        *elsewhere,
    )  # fmt: skip
    assert (code, "FAIL" in said) == (1, True)
