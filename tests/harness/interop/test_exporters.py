"""Results out: read back by each tracker's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.comparison.evidence import summarize
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.interop.exporters.results import results_of
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import scripted, suite_yaml


@pytest.fixture
def runs(workspace: Workspace, tmp_path: Path) -> list[Run]:
    suite = load_suite(suite_yaml(tmp_path))
    with Store(workspace) as store:
        return [
            score(scripted(name=f"m{n}")[0], suite, store, training_id="t1", step=10 * n).run
            for n in (1, 2)
        ]


def _publish(workspace: Workspace, *words: str) -> int:
    return main(["--home", str(workspace.home), "publish", *words])


def _value(workspace: Workspace, run: Run, metric: str) -> float:
    with Store(workspace) as store:
        (line,) = (line for line in summarize(store, run) if line.metric == metric)
    assert line.estimate.value is not None
    return line.estimate.value


def test_tensorboard_reads_a_curve_for_a_training(
    workspace: Workspace, runs: list[Run], tmp_path: Path
) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert _publish(workspace, "training:t1", "--to", f"tensorboard:{tmp_path / 'tb'}") == 0
    events = accumulators.EventAccumulator(str(tmp_path / "tb" / "t1"))
    events.Reload()
    curve = events.Scalars("capitals/read/perplexity")
    assert [point.step for point in curve] == [10, 20]
    assert curve[0].value == pytest.approx(_value(workspace, runs[0], "read/perplexity"), rel=1e-6)


@pytest.mark.long
def test_mlflow_takes_a_run_once_however_often_it_is_sent(
    workspace: Workspace, runs: list[Run], tmp_path: Path
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    for _ in range(2):
        assert _publish(workspace, f"run:{runs[0].id}", "--to", f"mlflow:{uri}") == 0
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name("ratchet/capitals")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.tags["ratchet.run"] == runs[0].id
    assert found.data.metrics["ask/exact_match"] == _value(workspace, runs[0], "ask/exact_match")


@pytest.mark.long
def test_wandb_keeps_a_run_offline(
    workspace: Workspace, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert _publish(workspace, f"run:{runs[0].id}", "--to", "wandb:team/ratchet") == 0
    (log,) = tmp_path.rglob(f"run-{runs[0].id}.wandb")
    assert b"ask/exact_match" in log.read_bytes()


def test_a_model_card_keeps_its_text_and_the_results_of_others(
    workspace: Workspace, runs: list[Run], tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    card_file = tmp_path / "README.md"
    card_file.write_text(
        "---\nlicense: mit\nmodel-index:\n- name: mine\n  results:\n  - task: {type: qa}\n"
        "    dataset: {type: other, name: Other}\n    metrics:\n    - {type: f1, value: 0.5}\n"
        "---\n# Mine\n\nA model.\n"
    )
    for _ in range(2):
        assert _publish(workspace, f"run:{runs[0].id}", "--to", f"model-index:{card_file}") == 0
    card = ModelCard.load(card_file)
    assert "A model." in card.text
    assert card.data.license == "mit"
    by_type = {(r.dataset_type, r.metric_name or r.metric_type): r for r in card.data.eval_results}
    assert by_type["other", "f1"].metric_value == 0.5
    ours = by_type["ratchet/capitals", "ask/exact_match"]
    assert ours.metric_value == _value(workspace, runs[0], "ask/exact_match")
    with Store(workspace) as store:
        sent = results_of(store, runs[0])
    assert len(by_type) == len(sent.metrics) + 1
    assert json.dumps(sent.tags)


def test_a_new_model_card_is_made(workspace: Workspace, runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "README.md"
    assert _publish(workspace, f"run:{runs[1].id}", "--to", f"model-index:{path}") == 0
    assert "model-index" in path.read_text()


@pytest.mark.parametrize(
    "words",
    [("run:nope", "--to", "model-index:x.md"), ("training:nope", "--to", "model-index:x.md")],
    ids=str,
)
def test_what_is_not_there_is_said(workspace: Workspace, words: tuple[str, ...]) -> None:
    assert _publish(workspace, *words) == 3


def test_an_unknown_tracker_and_a_library_that_is_not_installed(
    workspace: Workspace, runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    assert _publish(workspace, f"run:{runs[0].id}", "--to", "excel:x") == 3
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert _publish(workspace, f"run:{runs[0].id}", "--to", "tensorboard:x") == 3
    assert isinstance(capsys, pytest.CaptureFixture)
    assert "ratchet-eval[tensorboard]" in capsys.readouterr().err
