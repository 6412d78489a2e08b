"""The recipes that ship: valid, free of what they are judged on, and each runs on SmolLM2."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles
from harness.store.store import Store
from trainers.checkpoints.lookup import training_id
from trainers.config.contamination import check_recipe
from trainers.config.data_plan import make_plan
from trainers.config.known_trainers import TRAINERS
from trainers.config.load import load_recipe

RECIPES = Path(__file__).parents[3] / "trainers" / "recipes"
SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))
# The quickstart has a test of its own.
TRAINED = [name for name in SHIPPED if name != "quickstart"]


# As they were when these recipes shipped first. A recipe of another digest is another training:
# what somebody began would begin again, and what is recorded of it would be found no more.
NAMES = {
    "dpo": ("838ab0edac396d41", ["dpo-bb12d624fc"]),
    "grpo": ("00b20c99d0649010", ["grpo-fb00900496"]),
    "kto": ("d1b0c4186d99a8e6", ["kto-401d38994f"]),
    "pipeline": (
        "12ef05988ca391be",
        [
            "pipeline.domain-d3512edf32",
            "pipeline.intents-0bdaa0c345",
            "pipeline.form-b6c2686b6d",
            "pipeline.reinforce-896ee8fec4",
        ],
    ),
    "ppo": ("4d88b2db243d43fa", ["ppo-9d322e031b"]),
    "quickstart": ("0981e45d005416f2", ["quickstart-ef79e5468f"]),  # ROUGE names other tokens now
    "reward": ("a9a6f92e42c89250", ["reward-db75937e8c"]),
    "rloo": ("391d7f8b27a23bf6", ["rloo-07df9b6bcf"]),
}


def test_there_is_a_recipe_for_every_trainer() -> None:
    recipes = [load_recipe(RECIPES / f"{name}.yaml") for name in SHIPPED]
    assert {stage.model.trainer for recipe in recipes for stage in recipe.stages} == set(
        TRAINERS.built_in
    )


def test_the_quickstart_learns_from_the_same_rows_as_ever() -> None:
    """Its results are printed in the README; another plan would be another training."""
    [stage] = load_recipe(RECIPES / "quickstart.yaml").stages
    assert make_plan(stage, spare=3).digest == "612a5d78966ab4f4"


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.usefixtures("first_versions")
def test_a_recipe_is_the_same_training_as_ever(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    base = ModelFiles("base", Path("base"), None, "0" * 64)
    ids = [training_id(recipe, stage, base) for stage in recipe.stages]
    assert (recipe.digest, ids) == NAMES[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_recipe_learns_what_it_is_judged_on(name: str) -> None:
    assert check_recipe(load_recipe(RECIPES / f"{name}.yaml")).worst == 0


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", TRAINED)
def test_it_runs_on_the_real_model(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert main(["train", str(RECIPES / f"{name}.yaml"), "--home", str(tmp_path)]) == 0
    with Store(Workspace.at(tmp_path)) as store:
        events = store.query("SELECT event, count(*) AS n FROM training_events GROUP BY event")
        counts = {row["event"]: row["n"] for row in events}
        accuracy = [
            row["mean"]
            for row in store.query(
                "SELECT s.mean FROM run_summary s JOIN runs r USING (run_id) "
                "WHERE s.metric = 'pair_accuracy' ORDER BY r.suite, r.step"
            )
        ]
    assert counts["finished"] == len(recipe.stages)
    assert counts["verdict"] >= sum(stage.segments for stage in recipe.stages)
    if name in ("reward", "dpo", "kto"):
        assert accuracy[-1] > accuracy[0] + 0.1
    if name in ("reward", "dpo"):
        assert accuracy[-1] > {"reward": 0.9, "dpo": 0.7}[name]
    if name in ("grpo", "rloo", "ppo"):
        assert counts["rewards"] >= 1
