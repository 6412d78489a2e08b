"""What a recipe would take: by arithmetic at first, and then from what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet
from trainers.config.estimate import estimate
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining


@pytest.mark.parametrize("trainer", ["sft", "reward", "grpo", "ppo"])
def test_without_a_training_it_is_arithmetic(
    tmp_path: Path, tiny_llama: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One speed for both: this machine's own would be measured twice, busy or idle.
    monkeypatch.setattr("trainers.config.estimate.matrix_speed", lambda: 1e9)
    short = load_recipe(write_method_world(tmp_path / "a", tiny_llama, trainer))
    stage = {"steps": 12}
    long = load_recipe(write_method_world(tmp_path / "b", tiny_llama, trainer, stage=stage))
    base = resolve(str(tiny_llama), Workspace.at(tmp_path / "home"))
    first, second = (estimate(r, r.stages[0], base, None) for r in (short, long))
    assert not first.measured
    assert 0 < first.training_s < second.training_s
    assert 0 < first.scoring_s < second.scoring_s


def test_after_a_training_it_is_what_was_measured(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft")
    recipe = load_recipe(path)
    workspace = Workspace.at(tmp_path / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, Quiet())  # type: ignore[arg-type]
        training.run()
        found = estimate(recipe, recipe.stages[0], training.stage_run.base, store)
    assert found.measured
    assert found.seconds > 0
    assert found.cost(3600) == pytest.approx(found.seconds)
    words = ["train", str(path), "--dry-run", "--price", "2", "--home", str(workspace.home)]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "data plan" in shown
    assert "trainings of this base here" in shown
    assert "at 2 an hour" in shown
