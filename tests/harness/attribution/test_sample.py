"""One sample of a verdict, explained at the terminal and as pictures."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from harness.attribution.sample import explain_sample
from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.harness.suite_builders import write_jsonl
from tests.tiny import save_tiny_llama

HOSTILE = "Book </text><script>alert(1)</script> [red]a[/red] table"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, verdict) of two tiny models on three questions."""
    folder = tmp_path_factory.mktemp("sample")
    save_tiny_llama(folder / "a")
    save_tiny_llama(folder / "b", seed=8)
    rows = [
        {"id": "q1", "asked": HOSTILE, "answer": "at seven"},
        {"id": "q2", "asked": "Where is the fox?", "answer": "in the park"},
        {"id": "q3", "asked": "今天的天气", "answer": "很好"},
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    task = {
        "data": "rows.jsonl",
        "prompt": {"system": "Answer.", "user": "{{ asked }}"},
        "reference": "{{ answer }}",
        "metrics": ["reference_nll"],
    }
    gate = {"metrics": {"asked/reference_nll": {"required": True}}}
    suite = {"name": "asked", "tasks": {"asked": task}, "gate": gate}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    words = ["gate", str(folder / "b"), "--against", str(folder / "a")]
    main(["--home", str(folder / "home"), *words, "--suite", str(folder / "suite.yaml")])
    with Store(Workspace.at(folder / "home")) as store:
        [row] = store.query("SELECT verdict_id FROM verdicts")
    return folder, row["verdict_id"]


def test_its_change_is_the_metric_s_and_its_tokens_make_it_up(world: tuple[Path, str]) -> None:
    folder, verdict = world
    workspace = Workspace.at(folder / "home")
    with Store(workspace) as store:
        found = explain_sample(store, workspace, verdict, "q2")
        scores = store.query(
            "SELECT run_id, stats FROM current_scores WHERE sample_id = 'q2' "
            "AND metric = 'reference_nll'"
        )
        [runs] = store.query("SELECT anchor_run, candidate_run FROM verdicts")
    nll = {row["run_id"]: row["stats"][0] for row in scores}
    change = nll[runs["anchor_run"]] - nll[runs["candidate_run"]]
    assert found.change == pytest.approx(change, abs=1e-3)
    assert "".join(text for text, _ in found.integrated) == "Where is the fox?"
    assert [word for word, _ in found.occluded] == ["Where", "is", "the", "fox", "?"]


@pytest.mark.parametrize("sample", ["q1", "asked/q3"])
def test_pictures_are_written_and_hostile_text_stays_text(
    world: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: str
) -> None:
    folder, verdict = world
    words = ["explain", verdict, "--sample", sample, "-o", str(tmp_path / "out")]
    assert main(["--home", str(folder / "home"), *words]) == 0
    said = capsys.readouterr().out
    assert "Integrated Gradients" in said
    pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pictures == ["attention.svg", "integrated-gradients.svg", "occlusion.svg"]
    for path in (tmp_path / "out").iterdir():
        root = ET.fromstring(path.read_text("utf-8"))
        assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert "not why it answers" in (tmp_path / "out" / "attention.svg").read_text("utf-8")


def test_what_can_t_be_explained_says_so(
    world: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, verdict = world
    home = ["--home", str(folder / "home")]
    assert main([*home, "explain", verdict, "--sample", "q9"]) == 3
    assert "asked/q1" in capsys.readouterr().err
    shutil.move(folder / "b", folder / "gone")
    try:
        assert main([*home, "explain", verdict, "--sample", "q2"]) == 3
        assert "not here any more" in capsys.readouterr().err
    finally:
        shutil.move(folder / "gone", folder / "b")
