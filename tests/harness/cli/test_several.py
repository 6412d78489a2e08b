"""Many checkpoints in one call: their order, one load, what is known already, one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.several import line_of, named, short_names, step_of
from harness.core.errors import UserError
from harness.models import kept_base
from harness.models.resolve import load
from tests.harness.suite_builders import Ratchet, suite_yaml
from tests.tiny_adapters import save_adapter


@pytest.fixture
def run(tmp_path: Path, tiny_llama: Path) -> Path:
    for step in (2, 10, 9):
        save_adapter(tmp_path / "run" / f"checkpoint-{step}", tiny_llama, seed=step)
    return tmp_path / "run"


def test_checkpoints_are_scored_in_the_order_of_their_steps_on_one_base(
    run: Path, ratchet: Ratchet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    monkeypatch.setattr(
        kept_base, "load", lambda files, **where: loads.append(files) or load(files, **where)
    )
    suite = suite_yaml(tmp_path)
    code, said = ratchet("score", f"{run}/checkpoint-*", "--suite", suite)
    assert code == 0, said
    places = [said.index(f"{n} of 3 checkpoint-{step}") for n, step in ((1, 2), (2, 9), (3, 10))]
    assert places == sorted(places)
    assert len(loads) == 1
    assert "over the steps" in said
    assert "↑ ask/exact_match" in said
    # What is known is not asked for again, by whichever call.
    code, said = ratchet("score", *run.glob("checkpoint-*"), "--suite", suite)
    assert said.count("known already") == 3
    assert "Loading" not in said
    code, said = ratchet("score", run / "checkpoint-9", "--suite", suite)
    assert "Nothing was generated" in said


def test_an_interrupted_call_goes_on_where_it_was(
    run: Path, ratchet: Ratchet, tmp_path: Path
) -> None:
    suite = suite_yaml(tmp_path)
    assert ratchet("score", run / "checkpoint-2", "--suite", suite)[0] == 0
    code, said = ratchet("score", f"{run}/checkpoint-*", "--suite", suite)
    assert code == 0
    assert said.count("known already") == 1


def test_a_checkpoint_that_is_not_whole_is_said_before_anything_is_loaded(
    run: Path, ratchet: Ratchet, tmp_path: Path
) -> None:
    (run / "checkpoint-10" / "adapter_model.safetensors").unlink()
    code, said = ratchet("score", f"{run}/checkpoint-*", "--suite", suite_yaml(tmp_path))
    assert code == 3
    assert "checkpoint-10" in said
    assert "Loading" not in said


def test_a_pattern_that_nothing_matches(ratchet: Ratchet, tmp_path: Path) -> None:
    code, said = ratchet("score", "nowhere/checkpoint-*", "--suite", suite_yaml(tmp_path))
    assert code == 3
    assert "no folder matches 'nowhere/checkpoint-*'" in said


def test_names_in_their_order(tmp_path: Path) -> None:
    for name in ("step-000100", "step-000020", "last", "other/step-3", "v1.5"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "step-7").write_text("a file", encoding="utf-8")
    hundred, twenty, last = (str(tmp_path / n) for n in ("step-000100", "step-000020", "last"))
    assert named([f"{tmp_path}/step-*"]) == [twenty, hundred]
    # Without a step, or in several folders, the order is the user's; each stands once.
    assert named([hundred, last, twenty, hundred]) == [hundred, last, twenty]
    other = str(tmp_path / "other" / "step-3")
    assert named([hundred, other]) == [hundred, other]
    assert named(["org/model-7", "line:bot"]) == ["org/model-7", "line:bot"]
    assert (step_of(hundred), step_of(last), step_of(str(tmp_path / "v1.5"))) == (100, None, None)
    assert short_names([hundred, other]) == {hundred: "step-000100", other: "step-3"}
    twin = str(tmp_path / "other" / ".." / "other" / "step-3")
    assert short_names([other, twin]) == {other: other, twin: twin}
    with pytest.raises(UserError, match="no folder matches"):
        named([f"{tmp_path}/step-7*"])


def test_a_line_over_the_steps() -> None:
    assert line_of([0.0, 0.5, None, 1.0]) == "▁▅ █"
    assert line_of([2.0, 2.0]) == "▄▄"
    assert line_of([None]) == " "
    long = line_of([float(n) for n in range(500)])
    assert (len(long), long[0], long[-1]) == (32, "▁", "█")
