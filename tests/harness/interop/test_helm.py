"""What HELM writes becomes runs, and what isn't whole is one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.helm import FILES, read_helm
from harness.store.store import Store
from tests.harness.interop.import_builders import run_named
from tests.harness.suite_builders import Ratchet

TYPOS = {"name": "typos", "robustness": True, "fairness": False, "computed_on": "perturbed"}


def request(number: int, right: bool, **instance: Any) -> dict[str, Any]:
    """A request state, as HELM 0.5.16 writes it."""
    return {
        "instance": {
            "input": {"text": f"Is {number} even or odd?"},
            "references": [
                {"output": {"text": "Even"}, "tags": ["correct"] * (number % 2 == 0)},
                {"output": {"text": "Odd"}, "tags": ["correct"] * (number % 2)},
            ],
            "split": "test",
            "id": f"id{number}",
            **instance,
        },
        "train_trial_index": 0,
        "request": {"model": "simple/model1", "prompt": f"Is {number} even or odd?\nAnswer:"},
        "result": {
            "success": True,
            "completions": [{"text": ("Even", "Odd")[(number + (not right)) % 2], "logprob": 0}],
            "request_datetime": 1796097872,
        },
    }


def stats(number: int, right: bool, **place: Any) -> dict[str, Any]:
    values = {"num_prompt_tokens": 9, "exact_match": int(right), "wer_score": int(not right)}
    return {
        "instance_id": f"id{number}",
        "train_trial_index": 0,
        "stats": [
            *(stat(name, value) for name, value in values.items()),
            {"name": {"name": "training_co2_cost", "split": "test"}, "count": 0, "sum": 0},
        ],
        **place,
    }


def stat(name: str, value: float) -> dict[str, Any]:
    return {"name": {"name": name, "split": "test"}, "count": 1, "sum": value, "mean": value}


def write(
    folder: Path, rights: list[bool], *, model: str = "simple/model1", **adapter: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "name": f"mmlu:subject=sums,model={model.replace('/', '_')}",
        "scenario_spec": {"class_name": "Sums", "args": {}},
        "adapter_spec": {"method": "generation", "model": model, "temperature": 0.0, **adapter},
    }
    states = [request(n, right) for n, right in enumerate(rights)]
    level = sum(rights) / len(rights)
    contents = (
        spec,
        {"adapter_spec": spec["adapter_spec"], "request_states": states},
        [stats(n, right) for n, right in enumerate(rights)],
        [stat("exact_match", level), stat("wer_score", 1 - level)],
    )
    for name, content in zip(FILES, contents, strict=True):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_scores_directions_prompts_and_answers_are_read(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "runs/v1/mmlu", [n % 4 != 0 for n in range(12)])
    imported = read_helm(tmp_path)
    (task,) = imported.tasks
    assert (task.name, imported.model, imported.notes) == ("mmlu:subject=sums", "simple/model1", ())
    assert [metric.name for metric in task.metrics] == ["exact_match", "wer_score"]
    assert task.samples[1].references == ("Odd",)
    assert (task.answers[1].text, task.answers[0].text) == ("Odd", "Odd")
    run, _ = take_in(store, imported)
    lines = {line.metric: line for line in summarize(store, run)}
    assert lines["mmlu:subject=sums/exact_match"].estimate.value == pytest.approx(0.75)
    assert lines["mmlu:subject=sums/wer_score"].direction == "lower"
    (task,) = read_helm(tmp_path, lower=["exact_match"]).tasks
    assert task.metrics[0].direction == "lower"
    with pytest.raises(UserError, match="no metric 'exact'"):
        read_helm(tmp_path, lower=["exact"])


def test_a_perturbed_instance_is_of_its_instance_s_cluster(tmp_path: Path) -> None:
    folder = write(tmp_path, [True, False])
    state, values = folder / "scenario_state.json", folder / "per_instance_stats.json"
    content = json.loads(state.read_text())
    failed = {"success": False, "error": "429\ntoo many requests"}
    content["request_states"] += [{**request(1, True, perturbation=TYPOS), "result": failed}]
    state.write_text(json.dumps(content))
    values.write_text(
        json.dumps([*json.loads(values.read_text()), stats(1, True, perturbation=TYPOS)])
    )
    (task,) = read_helm(tmp_path).tasks
    first, second, typos = task.metrics[0].points
    assert (typos.sample_id, typos.cluster, second.cluster) == ("id1/typos", "id1", "id1")
    assert (typos.value, typos.reason, first.value) == (None, "429 too many requests", 1)


def test_two_runs_are_gated_and_other_shots_are_another_protocol(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    good = write(tmp_path / "out/good", [n % 8 != 0 for n in range(40)])
    bad = write(tmp_path / "out/bad", [n % 2 != 0 for n in range(40)], model="simple/model2")
    for place in (good, bad):
        ratchet("import", "helm", place, "--run", place.name)
    code, said = ratchet("gate", "bad", "--against", "good")
    assert (code, "FAIL: mmlu:subject=sums/" in said) == (1, True)
    write(bad, [n % 2 != 0 for n in range(40)], max_train_instances=5)
    other = run_named(ratchet("import", "helm", bad)[1])
    assert ratchet("gate", other, "--against", "good")[0] not in (0, 1)


def test_what_is_not_whole_is_one_message(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [True, False, True])
    for name, text, says in (
        ("run_spec.json", "{}", "not as HELM writes it"),
        ("scenario_state.json", '{"request_states": []}', "not as HELM writes it"),
        ("per_instance_stats.json", '[{"instance_id": 1}]', "not as HELM writes it"),
        ("stats.json", "[{", "this is not JSON"),
        ("per_instance_stats.json", json.dumps([stats(9, True)]), "no request for instance id9"),
    ):
        whole = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says) as caught:
            read_helm(folder)
        assert caught.value.file is not None
        (folder / name).write_text(whole, encoding="utf-8")
    write(tmp_path / "b", [True], model="other")
    with pytest.raises(UserError, match="2 models: other, simple/model1"):
        read_helm(tmp_path)
    (tmp_path / "b/stats.json").unlink()
    with pytest.raises(UserError, match=r"has no stats.json: it didn't finish"):
        read_helm(tmp_path)
    for place, says in ((tmp_path / "x", "no such folder"), (folder / FILES[0], "this is a file")):
        with pytest.raises(UserError, match=says):
            read_helm(place)
