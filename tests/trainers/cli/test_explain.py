"""`ratchet explain` of a training's FAIL, as its user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.comparison.taught_rows import taught_rows
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining


def test_the_rows_of_a_fail_are_named(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, home = write_world(tmp_path, tiny_llama, talk=False), tmp_path / "home"
    workspace = Workspace.at(home).ensure()
    with Store(workspace) as store:
        GatedTraining(load_recipe(path), workspace, store, Quiet()).run()
        rows = store.query("SELECT verdict_id, outcome, step FROM verdicts ORDER BY seq")
    failed = next(row["verdict_id"] for row in rows if row["outcome"] == "fail")
    assert main(["--home", str(home), "explain", failed[:8]]) == 0
    said = capsys.readouterr().out
    assert "Which rows taught it" in said
    assert "rows from step 6 to 9" in said
    assert said.count("rubbish.jsonl:") >= 5
    assert "zqx" in said or "qqq" in said or "vkvk" in said or "xxqz" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    with Store(workspace) as store:
        kept = taught_rows(store, workspace, failed)
    assert kept is not None
    assert (kept.begin, kept.end) == (6, 9)
    assert [row.place.split(":")[0] for row in kept.rows[:5]] == ["rubbish.jsonl"] * 5
    assert kept.rows[0].said
    # A sample that is a text has no question to explain.
    assert main(["--home", str(home), "explain", failed, "--sample", "r0"]) == 3
    assert "no question" in capsys.readouterr().err
    assert main(["--home", str(home), "explain", "nothing"]) == 3
    assert "the last ones are" in capsys.readouterr().err
    promotion = next(row["verdict_id"] for row in rows if row["step"] is None)
    assert main(["--home", str(home), "explain", promotion]) == 0
    assert "not on a checkpoint of a training" in " ".join(capsys.readouterr().out.split())
