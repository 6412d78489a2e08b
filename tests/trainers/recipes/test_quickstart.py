"""The README's promise on the real model: what `make demo` runs, read back from its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.store.store import Store
from trainers.config.load import load_recipe

RECIPE = Path(__file__).parents[3] / "trainers" / "recipes" / "quickstart.yaml"


def test_the_recipe_is_valid_and_says_what_is_spoiled() -> None:
    recipe = load_recipe(RECIPE)
    [spoiled] = [source for source in recipe.stages[0].data.mix if source.segments]
    assert spoiled.segments == (3,)
    assert "on purpose" in str(spoiled.note)
    required = [name for name, own in recipe.stages[0].suite.policy.metrics.items() if own.required]
    assert sorted(required) == [
        "general/perplexity",
        "intents/json_match",
        "intents/json_valid",
    ]


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_demo_catches_rolls_back_and_promotes(tmp_path: Path) -> None:
    words = ["train", str(RECIPE), "--home", str(tmp_path)]
    assert main(words) == 0
    every = load_recipe(RECIPE).stages[0].model.checkpoint_every
    with Store(Workspace.at(tmp_path)) as store:
        backs = store.query("SELECT failed_step, remedy FROM rollbacks ORDER BY happened_at")
        assert backs[0] == {"failed_step": 3 * every, "remedy": "skip_data"}
        [final] = store.query("SELECT step FROM training_events WHERE event = 'promoted'")
        match = {
            row["step"]: row["mean"]
            for row in store.query(
                "SELECT r.step, s.mean FROM run_summary s JOIN runs r USING (run_id) "
                "WHERE s.metric = 'json_match'"
            )
        }
    assert match[final["step"]] > match[0] + 0.2
    assert (tmp_path / "lines" / "quickstart" / "blessed" / "adapter_model.safetensors").exists()
    # What was promoted is scored from the cache: the same bytes, the same answers.
    suite = str(RECIPE.parents[2] / "suites" / "quickstart.yaml")
    assert main(["score", "line:quickstart", "--suite", suite, "--home", str(tmp_path)]) == 0
