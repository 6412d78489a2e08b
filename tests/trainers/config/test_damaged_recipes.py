"""Recipes damaged at random: a recipe or a UserError, never a crash."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.damage_builders import allowed, spoil
from tests.harness.fuzz.budget import fuzz
from trainers.config.load import load_recipe

RECIPES = Path(__file__).parents[3] / "trainers" / "recipes"


def damaged_recipe(chance: random.Random) -> None:
    recipe = RECIPES / chance.choice(["quickstart", "dpo", "kto", "ppo", "grpo"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        text = recipe.with_suffix(".yaml").read_bytes()
        shutil.copytree(RECIPES / "data", Path(folder) / "data")
        path.write_bytes(spoil(text, chance))
        allowed(lambda: load_recipe(path))


@pytest.mark.long
def test_a_damaged_recipe_is_a_recipe_or_one_message() -> None:
    fuzz("files", st.integers(0, 2**63).map(random.Random), damaged_recipe, parts=2)
