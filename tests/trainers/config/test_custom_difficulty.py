"""A curriculum by the model's own perplexity, from the recipe to the rows that it learns from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from harness.backends.transformers.backend import TransformersBackend
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from harness.store.store import Store
from tests.trainers.method_builders import TEMPLATES, write_method_world
from tests.trainers.training_driver import Quiet, never_fail, weights
from trainers.config.curriculum import available, own_perplexity
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining

CURRICULUM = {"by": "perplexity", "start": 0.1, "full_at": 1.0}


def world(folder: Path, base: Path) -> Path:
    mix = [{"source": "pairs.jsonl", "weight": 1, **TEMPLATES["sft"]}]
    data = {"seed": 3, "mix": mix, "curriculum": CURRICULUM}
    return write_method_world(folder, base, "sft", data=data)


def train(path: Path, reporter: Any) -> GatedTraining:
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, reporter)
        never_fail(training, {})
        training.run()
    return training


def test_what_the_model_finds_easy_comes_first(tmp_path: Path, tiny_llama: Path) -> None:
    path = world(tmp_path / "a", tiny_llama)

    class Interrupting(Quiet):
        def train_step(self, step: int, of: int, loss: float | None) -> None:
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(path, Interrupting())
    [home] = (path.parent / "home" / "trainings").iterdir()
    plan = json.loads((home / "plan.json").read_text("utf-8"))
    kept = json.loads((home / "difficulty.json").read_text("utf-8"))
    # What was measured is the base model's own perplexity of each answer given its prompt.
    recipe = load_recipe(path)
    backend = TransformersBackend(*load(resolve(str(tiny_llama), Workspace.at(tmp_path / "home"))))
    assert kept["perplexity"] == pytest.approx(own_perplexity(backend, recipe.stages[0].examples))
    hard = dict(zip(kept["rows"], kept["perplexity"], strict=True))
    means = [fmean(hard[row] for row in segment) for segment in plan["segments"]]
    assert means[0] < fmean(hard.values())
    assert means[0] == min(means)
    easiest = sorted(hard, key=hard.__getitem__)
    # The first segment draws from those that are open by its end, of as many as are planned.
    stage = recipe.stages[0]
    assert stage.data.curriculum is not None
    reach = math.ceil(available(1 / stage.segments, stage.data.curriculum) * len(easiest))
    assert reach < len(easiest)
    assert set(plan["segments"][0]) <= set(easiest[:reach])

    # After an interruption nothing is measured anew, and the end is that of an unbroken training.
    again = train(path, Quiet())
    assert json.loads((home / "plan.json").read_text("utf-8")) == plan
    unbroken = train(world(tmp_path / "b", tiny_llama), Quiet())
    assert weights(again.folder.path(6)) == weights(unbroken.folder.path(6))
    assert again.plan.digest == unbroken.plan.digest == plan["digest"]
