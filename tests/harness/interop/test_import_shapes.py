"""Results as tools write them in other ways than the plainest: layouts, reducers, words, CSVs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.fingerprint import protocol_differences
from harness.core.workspace import Workspace
from harness.interop.importers.common import Imported, take_in
from harness.interop.importers.csv_scores import read_csv
from harness.interop.importers.inspect_log import read_inspect
from harness.interop.importers.lm_eval import read_lm_eval
from harness.store.store import Store
from tests.harness.interop.import_builders import HEADER, INSPECT, LM_EVAL, run_named, write_csv
from tests.harness.suite_builders import Ratchet

# lm-eval's layouts.


def json_layout(folder: Path, *, stem: str = "my_results") -> Path:
    """As `--output_path DIR/my_results.json` writes it: the name, the time, samples beside it."""
    shutil.copytree(LM_EVAL / "a", folder, dirs_exist_ok=True)
    (results,) = folder.glob("results_*.json")
    return results.rename(folder / results.name.replace("results", stem, 1))


@pytest.mark.parametrize("stem", ["my_results", "out", "a_b-c", "results_of_today"])
def test_lm_evals_output_path_may_be_a_file(stem: str, tmp_path: Path) -> None:
    file = json_layout(tmp_path / "out", stem=stem)
    plain = read_lm_eval(LM_EVAL / "a")
    for place in (file, file.parent):
        found = read_lm_eval(place)
        assert found.tasks == plain.tasks
        assert found.model == plain.model


def second_run(folder: Path, task: str, **settings: Any) -> Path:
    """A later run of one task in the same folder, called with other settings."""
    (first,) = (LM_EVAL / "a").glob("results_*.json")
    stamp = first.name.removeprefix("results_").removesuffix(".json")
    later = "2026-11-23T10-00-00.000001"
    content = json.loads(first.read_text())
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        content[part] = {task: content[part][task]}
    content["config"].update(settings)
    shutil.copyfile(
        LM_EVAL / "a" / f"samples_{task}_{stamp}.jsonl", folder / f"samples_{task}_{later}.jsonl"
    )
    path = folder / f"results_{later}.json"
    path.write_text(json.dumps(content))
    return path


def test_two_runs_of_one_model_in_a_folder_are_one_run(tmp_path: Path) -> None:
    shutil.copytree(LM_EVAL / "a", tmp_path, dirs_exist_ok=True)
    second_run(tmp_path, "capitals_mc")
    found = read_lm_eval(tmp_path)
    assert {task.name for task in found.tasks} == {"capitals_mc", "capitals_gen", "capitals_ppl"}
    assert len(found.tasks) == 3
    (note,) = found.notes
    assert note.startswith("capitals_mc of results_2026-11-22")
    assert "is newer" in note


@pytest.mark.parametrize(
    "settings",
    [{"model_args": {"pretrained": "mb"}}, {"limit": 4.0}, {"model_dtype": "torch.bfloat16"}],
)
def test_what_is_not_of_the_newest_run_is_left_out_and_said(
    settings: Mapping[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(LM_EVAL / "a", tmp_path, dirs_exist_ok=True)
    second_run(tmp_path, "capitals_mc", **settings)
    found = read_lm_eval(tmp_path)
    assert [task.name for task in found.tasks] == ["capitals_mc"]
    assert any("results_2026-11-22" in note and "is left out" in note for note in found.notes)


def test_results_without_samples_beside_others_are_said(tmp_path: Path) -> None:
    shutil.copytree(LM_EVAL / "a", tmp_path, dirs_exist_ok=True)
    later = second_run(tmp_path, "capitals_mc")
    next(tmp_path.glob("samples_capitals_mc_2026-11-23*")).unlink()
    found = read_lm_eval(tmp_path)
    assert len(found.tasks) == 3
    assert found.notes == (f"{later.name} is left out: it has no samples",)


# Inspect.

SMALL = json.loads((INSPECT / "small.json").read_text())


def log(
    folder: Path,
    values: list[Any],
    *,
    epochs: int = 1,
    reducer: str | list[str] | None = None,
    score: str = "acc",
    reported: float | None = None,
    config: Mapping[str, Any] | None = None,
    name: str = "log",
) -> Path:
    """A log whose samples have one score; `values` are by sample and then by epoch."""
    content = json.loads(json.dumps(SMALL))
    samples = []
    for number, value in enumerate(values):
        sample = json.loads(json.dumps(SMALL["samples"][0]))
        sample.update(id=f"s{number // epochs}", epoch=number % epochs + 1, error=None)
        sample["scores"] = {score: {"value": value, "answer": "x"}}
        samples.append(sample)
    content["samples"] = samples
    content["eval"]["config"].update(
        epochs=epochs, epochs_reducer=[reducer] if isinstance(reducer, str) else reducer
    )
    content["eval"]["model_generate_config"] = dict(config or {})
    content["results"] = {
        "total_samples": len(samples),
        "scores": []
        if reported is None
        else [
            {
                "name": score,
                "scorer": score,
                "reducer": reducer if isinstance(reducer, str) else None,
                "metrics": {"accuracy": {"value": reported}},
            }
        ],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def means(found: Imported, store: Store) -> dict[str, float]:
    run, _ = take_in(store, found)
    return {line.metric: line.estimate.value for line in summarize(store, run)}


@pytest.mark.parametrize("score", ["acc.strict", "a.b.c", "v1.5", ".x", "x."])
def test_a_score_may_have_dots_in_its_name(score: str, tmp_path: Path, store: Store) -> None:
    found = read_inspect(log(tmp_path, ["C", "C"], score=score))
    assert not found.skipped
    assert means(found, store) == {f"capitals/{score}": 1.0}


@pytest.mark.parametrize(
    ("reducer", "expected"),
    [
        ("mean", 0.5),
        ("max", 1.0),
        ("mode", 0.5),
        ("median", 0.5),
        ("at_least_1", 1.0),
        ("at_least_2", 0.5),
        ("pass_at_1", 0.5),
        ("pass_at_2", 5 / 6),
        ("pass_k_2", 1 / 6),
    ],
)
def test_epochs_are_reduced_as_inspect_did(
    reducer: str, expected: float, tmp_path: Path, store: Store
) -> None:
    # One answer of three right, then two of three: mode 0 and 1.
    path = log(tmp_path, ["C", "I", "I", "C", "C", "I"], epochs=3, reducer=reducer)
    found = read_inspect(path)
    assert means(found, store) == {"capitals/acc": pytest.approx(expected)}
    assert len(found.notes) == 1


@pytest.mark.parametrize("reducer", ["best_of_three", ["best", "worst"], "at_least_0"])
def test_an_unknown_reducer_is_said(reducer: str | list[str], tmp_path: Path, store: Store) -> None:
    found = read_inspect(log(tmp_path, ["C", "I"], epochs=2, reducer=reducer))
    assert means(found, store) == {"capitals/acc": 0.5}
    assert any("reduced epochs by" in note for note in found.notes)


def test_a_reducer_is_part_of_what_two_runs_share(tmp_path: Path) -> None:
    ways = [
        read_inspect(log(tmp_path, ["C", "I"], epochs=2, reducer=reducer, name=reducer))
        for reducer in ("mean", "max")
    ]
    measures = {found.tasks[0].metrics[0].measure for found in ways}
    assert len(measures) == 2


def test_a_mean_that_inspect_reports_otherwise_is_said(tmp_path: Path) -> None:
    agreed = read_inspect(log(tmp_path, ["C", "I"], reported=0.5, reducer="mean"))
    other = read_inspect(log(tmp_path, ["C", "I"], reported=1.0, reducer=None))
    assert len(agreed.notes) == 1
    assert "Inspect reported 1 for acc" in other.notes[1]


@pytest.mark.parametrize(
    ("values", "mean", "high"),
    [
        (["3", "5"], 4.0, None),
        (["0.25", "0.75"], 0.5, None),
        (["Yes", "no"], 0.5, 1.0),
        (["TRUE", "False"], 0.5, 1.0),
        (["C", "P"], 0.75, 1.0),
        ([True, False], 0.5, 1.0),
        (["4", "excellent"], 4.0, None),
    ],
)
def test_ratings_written_as_text(
    values: list[Any], mean: float, high: float | None, tmp_path: Path, store: Store
) -> None:
    found = read_inspect(log(tmp_path, values))
    assert found.tasks[0].metrics[0].high == high
    assert means(found, store) == {"capitals/acc": mean}


def test_words_are_left_out_with_the_word(tmp_path: Path) -> None:
    values = read_inspect(log(tmp_path, ["4", "excellent"])).tasks[0].metrics[0].points
    assert values[1].reason == "'excellent' is not a number"
    with pytest.raises(UserError, match="no score to import") as caught:
        take_in(None, read_inspect(log(tmp_path, ["good", "bad"])))  # type: ignore[arg-type]
    assert "a value is 'good'" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "sending",
    [
        {"max_connections": 20},
        {"timeout": 60},
        {"max_retries": 3},
        {"attempt_timeout": 5},
        {"adaptive_connections": True},
        {"batch": True},
        {"cache": True},
        {"cache_prompt": "auto"},
        {"max_connections": 1, "timeout": 9, "max_retries": None},
    ],
)
def test_how_a_question_is_sent_is_not_the_question(
    sending: Mapping[str, Any], tmp_path: Path
) -> None:
    plain = read_inspect(log(tmp_path, ["C"], name="plain"))
    sent = read_inspect(log(tmp_path, ["C"], config=sending, name="sent"))
    assert plain.tasks[0].protocol == sent.tasks[0].protocol


@pytest.mark.parametrize("sampling", [{"temperature": 0.7}, {"max_tokens": 9}, {"top_p": 0.5}])
def test_how_an_answer_is_sampled_is(sampling: Mapping[str, Any], tmp_path: Path) -> None:
    plain = read_inspect(log(tmp_path, ["C"], name="plain"))
    other = read_inspect(log(tmp_path, ["C"], config=sampling, name="other"))
    assert plain.tasks[0].protocol != other.tasks[0].protocol


def test_runs_sent_in_two_ways_are_gated(ratchet: Ratchet, tmp_path: Path) -> None:
    said = [
        ratchet("import", "inspect", log(tmp_path, ["C"] * 40, config=config, name=name))
        for name, config in (("a", {"max_connections": 10}), ("b", {"max_connections": 20}))
    ]
    a, b = (run_named(text) for _, text in said)
    assert ratchet("gate", b, "--against", a)[0] != 3


def test_one_sample_twice_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, ["C", "I"])
    content = json.loads(path.read_text())
    for sample in content["samples"]:
        sample["id"] = "same"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="there twice in epoch 1"):
        read_inspect(path)


def test_a_log_of_early_versions_keeps_one_score(tmp_path: Path) -> None:
    path = log(tmp_path, ["C", "I", "C"])
    content = json.loads(path.read_text())
    [told] = content.get("results", {}).pop("scores", None) or [{"name": "match"}]
    content["results"] = {**content.get("results", {}), "scorer": {"name": told["name"]}}
    for sample in content["samples"]:
        [sample["score"]] = sample.pop("scores").values()
    path.write_text(json.dumps(content))
    [metric] = read_inspect(path).tasks[0].metrics
    assert metric.name == told["name"]
    assert [point.value for point in metric.points] == [1.0, 0.0, 1.0]


def test_what_was_only_asked_is_no_score(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(LM_EVAL / "a", folder)
    (results,) = folder.glob("results_*.json")
    content = json.loads(results.read_text())
    content["results"]["capitals_mc"]["bypass,none"] = 999
    content["higher_is_better"]["capitals_mc"]["bypass"] = True
    results.write_text(json.dumps(content))
    (samples,) = folder.glob("samples_capitals_mc_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    samples.write_text(
        "\n".join(json.dumps({**row, "metrics": ["bypass"], "bypass": 999}) for row in rows)
    )
    assert "predict_only" in read_lm_eval(folder).skipped["capitals_mc/bypass"]


# CSV.


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (f"{HEADER},value", ["qa,em,higher,1,1,0"], "two columns are called 'value'"),
        ("task,task,metric,direction,sample_id,value", ["qa,qb,em,higher,1,1"], "called 'task'"),
        (HEADER.replace(",", ";"), ["qa;em;higher;1;1"], "separated by semicolons"),
        ('"task";"metric"', ['"qa";"em"'], "separated by semicolons"),
        (f"{HEADER},response", ["qa,em,higher,1,1,0", "qa,em,higher,1,0,"], "has no number, and"),
        (HEADER, ['qa,em,higher,"1,1', "qa,em,higher,2,1"], "unexpected end of data"),
        (HEADER.replace(",", "\t"), ["qa\tem\thigher\t1\t1"], "separated by tabs"),
        (f"sep=;\n{HEADER}", ["qa,em,higher,1,1"], "separated by semicolons"),
        (f"sep=,\n{HEADER}", ["qa,em,higher,1,1"], "names a separator"),
        (HEADER, ['qa,em,higher,1,"0,5"'], "is not a finite number"),
        (HEADER, ['qa,em,higher,1,"0'], "not a CSV"),
    ],
)
def test_a_csv_of_another_shape_is_named(
    header: str, rows: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_csv(write_csv(tmp_path, rows, header), name="x")
    assert caught.value.line is not None
    assert caught.value.hint


# Names.


def test_a_run_is_found_by_the_name_it_was_imported_under(
    ratchet: Ratchet, home: Workspace, tmp_path: Path
) -> None:
    rows = [f"qa,em,higher,{n},1" for n in range(40)]
    path = write_csv(tmp_path, rows)
    for name in ("first", "second"):
        assert ratchet("import", "csv", path, "--run", name)[0] == 0
    code, said = ratchet("gate", "run:second", "--against", "run:first")
    assert code in (0, 2), said
    code, said = ratchet("gate", "run:third", "--against", "run:first")
    assert (code, "there is no run 'third'" in said) == (3, True)
    write_csv(tmp_path, rows[:-1])
    assert ratchet("import", "csv", path, "--run", "first")[0] == 0
    code, said = ratchet("gate", "run:second", "--against", "run:first")
    assert (code, "several runs were imported as 'first'" in said) == (3, True)


def test_half_a_character_in_a_log_becomes_one_that_can_be_kept(
    tmp_path: Path, store: Store
) -> None:
    path = log(tmp_path, ["C"])
    path.write_text(path.read_text().replace("I do not know.", "cut \\ud83d"))
    run, _ = take_in(store, read_inspect(path))
    rows = store.query("SELECT text FROM responses")
    assert [row["text"] for row in rows] == ["cut �"]
    assert not protocol_differences(run.fingerprint, run.fingerprint)
