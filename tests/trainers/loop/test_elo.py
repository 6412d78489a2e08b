"""A training that is gated by perplexity and by Elo, both told at every checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.comparison.elo_ratings import ratings
from harness.core.workspace import Workspace
from harness.store.runs import require_run
from harness.store.store import Store
from tests.trainers.recipe_builders import edit, write_world

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[str, Path]:
    """The output of a short training with both metrics, and its home."""
    folder = tmp_path_factory.mktemp("elo")
    recipe = write_world(folder, tiny_llama, spoiled=False)
    edit(recipe, "stages", 0, "steps", value=6)
    suite = folder / "suite.yaml"
    edit(suite, "tasks", "talk", "metrics", value=[{"elo": {"judge": "reference_overlap"}}])
    edit(suite, "tasks", "talk", "reference", value="{{ text }}")
    required = {"required": True}
    edit(suite, "gate", "metrics", value={"texts/perplexity": required, "talk/elo": required})
    out = folder / "out.txt"
    with pytest.MonkeyPatch.context() as patch, out.open("w") as file:
        patch.setenv("COLUMNS", "80")
        patch.setattr("sys.stdout", file)
        assert main(["train", str(recipe), "--home", str(folder / "home")]) == 0
    return out.read_text(), folder / "home"


def test_each_checkpoint_says_its_elo(trained: tuple[str, Path]) -> None:
    lines = trained[0].splitlines()
    steps = [line for line in lines if re.match(r"step +\d+ +\S", line)]
    told = [line for line in lines if re.match(r" +Elo: talk \d+ \[\d+, \d+\] \(8 pairs", line)]
    assert len(told) == len(steps) - 1 == 2


def test_each_verdict_has_both_metrics_and_each_run_a_rating(trained: tuple[str, Path]) -> None:
    with Store(Workspace.at(trained[1])) as store:
        shown = store.query("SELECT * FROM verdicts WHERE training_id IS NOT NULL ORDER BY seq")
        for row in shown:
            metrics = {one["metric"] for one in row["detail"]["rows"]}
            assert metrics == {"texts/perplexity", "talk/elo"}
        first = require_run(store, next(row["anchor_run"] for row in shown))
        rated = ratings(store, first.fingerprint.protocol, "talk", first.model_digest)
        candidates = {require_run(store, row["candidate_run"]).model_digest for row in shown}
    assert set(rated) >= candidates
    assert all(rated[model].low is not None for model in candidates)
