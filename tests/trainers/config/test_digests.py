"""A recipe with an old spelling is read, and is the same training as under the new one.

Its digest and id were written down before the key was renamed: a training is found again by them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.core.errors import UserError
from harness.models.resolve import ModelFiles
from trainers.checkpoints.lookup import training_id
from trainers.config.load import load_recipe
from trainers.config.recipe import Recipe

BASE = ModelFiles("base", Path("base"), None, "0" * 64)


def identity(recipe: Recipe) -> tuple[str, list[str]]:
    return recipe.digest, [training_id(recipe, stage, BASE) for stage in recipe.stages]


def quantized(folder: Path, **keys: str) -> Path:
    """A recipe whose base is quantized, with `keys` beside the others."""
    (folder / "rows.jsonl").write_text('{"id": "r0", "text": "A table for two."}\n')
    task = {"data": "rows.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    suite = {"name": "s", "tasks": {"t": task}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    recipe = {
        "name": "q",
        "line": "q",
        "base": "some/base",
        "adapter": {"rank": 4},
        "data": {"mix": [{"source": "rows.jsonl", "weight": 1, "text": "{{ text }}"}]},
        "stages": [{"steps": 2, "checkpoint_every": 1}],
        "gate": {"suite": "suite.yaml"},
        **keys,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.mark.parametrize("key", ["quantise", "quantize"])
def test_a_quantized_base_is_the_same_under_either_spelling(tmp_path: Path, key: str) -> None:
    recipe = load_recipe(quantized(tmp_path, **{key: "4bit"}))
    assert recipe.model.quantize == "4bit"
    assert identity(recipe) == ("03e77be00ba2f264", ["q-4d7452e9b9"])


def test_both_spellings_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantise"):
        load_recipe(quantized(tmp_path, quantise="4bit", quantize="8bit"))
