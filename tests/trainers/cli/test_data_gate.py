"""`ratchet data gate`: real trainings of a tiny model on two versions of its data."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.recipe_builders import GOOD, RUBBISH, edit, rows, write_world


def world(folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_world(folder, base, spoiled=False, talk=False, promote=True)
    edit(path, "stages", 0, "steps", value=6)
    (folder / "bad.jsonl").write_text(rows([*GOOD[:1], *RUBBISH], 8), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RATCHET_HOME", str(folder / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return path


def weights(workspace: Workspace) -> dict[Path, int]:
    """When the weights of each training's last checkpoint were written."""
    found = workspace.trainings.glob("*/checkpoints/step-000006/model.safetensors")
    return {path: path.stat().st_mtime_ns for path in found}


COMMAND = ["data", "gate", "bad.jsonl", "--against", "good.jsonl", "--recipe", "recipe.yaml"]


def test_both_versions_are_trained_with_each_seed_and_compared(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world(tmp_path, tiny_llama, monkeypatch)
    assert main([*COMMAND, "--seeds", "2", "--json", "verdict.json"]) in (1, 2)
    told = capsys.readouterr().out
    assert "Training 4 of 4: seed 1 on the candidate" in told
    assert "takes about" in told or "takes over" in told
    assert max(map(len, told.splitlines())) <= 80
    workspace = Workspace.at()
    assert len(weights(workspace)) == 4
    assert not list(workspace.lines.iterdir())
    written = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert written["outcome"] in ("fail", "inconclusive")


@pytest.mark.long
def test_rubbish_is_caught_and_what_is_there_is_not_trained_again(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world(tmp_path, tiny_llama, monkeypatch)
    assert main([*COMMAND, "--seeds", "2"]) in (1, 2)
    workspace = Workspace.at()
    trained = weights(workspace)
    capsys.readouterr()
    # One seed more: the four are there, two are trained.
    assert main([*COMMAND, "--seeds", "3"]) == 1
    again = weights(workspace)
    assert len(again) == 6
    assert trained.items() <= again.items()
    told = capsys.readouterr().out
    assert "The data: FAIL" in told
    verdict = re.search(r"ratchet explain (\w+)", told)
    assert verdict is not None
    with Store(workspace) as store:
        (row,) = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict[1]])
    assert row["against"] == "data"
    detail = row["detail"] if isinstance(row["detail"], dict) else json.loads(row["detail"])
    assert detail["notes"]["runs"].count("seed") == 3
    assert main(["explain", verdict[1]]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.jsonl", "--against", "good.jsonl"], "there is no data none.jsonl"),
        (["good.jsonl", "--against", "./good.jsonl"], "both versions are the same data"),
        (["bad.jsonl", "--against", "good.jsonl", "--seeds", "1"], "greater than or equal to 2"),
    ],
)
def test_what_can_not_be_compared_is_said_before_a_weight_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    world(tmp_path, tmp_path / "no-base", monkeypatch)
    assert main(["data", "gate", *words, "--recipe", "recipe.yaml"]) == 3
    assert says in capsys.readouterr().err


def test_a_recipe_of_several_sources_must_name_the_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world(tmp_path, tmp_path / "no-base", monkeypatch)
    source = {"weight": 1, "text": "{{ text }}"}
    mix = [{"source": "good.jsonl", **source}, {"source": "rubbish.jsonl", **source}]
    edit(path, "data", "mix", value=mix)
    command = ["data", "gate", "bad.jsonl", "--recipe", "recipe.yaml", "--against"]
    assert main([*command, "heldout.jsonl"]) == 3
    assert "none of them is heldout.jsonl" in capsys.readouterr().err
    assert main([*command, "rubbish.jsonl"]) == 3
    assert "no-base" in capsys.readouterr().err


@pytest.mark.long
def test_reshuffled_rows_never_fail(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ten comparisons of twenty trainings each way: none is told to be worse."""
    path = world(tmp_path, tiny_llama, monkeypatch)
    lines = (tmp_path / "good.jsonl").read_text(encoding="utf-8").splitlines()
    for number in range(10):
        random.Random(number).shuffle(lines)
        (tmp_path / "again.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        edit(path, "seed", value=100 * number)
        command = ["data", "gate", "again.jsonl", "--against", "good.jsonl", "-r", "recipe.yaml"]
        assert main([*command, "--seeds", "2"]) in (0, 2), capsys.readouterr().out
