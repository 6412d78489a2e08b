"""GRPO and RLOO behind the safety layer: what is turned down is drawn again, never learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet, everything, never_fail
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining
from trainers.rewards.safety import Safety

BOTH = ["grpo", pytest.param("rloo", marks=pytest.mark.long)]


def train(path: Path) -> tuple[GatedTraining, list[dict[str, float]]]:
    """The training, and what was logged of rewards and safety step by step."""
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]
        never_fail(training, {})
        training.run()
        rows = store.query("SELECT detail FROM training_events WHERE event = 'rewards'")
    return training, [row["detail"] for row in rows]


def turning_down(monkeypatch: pytest.MonkeyPatch, bad: Any) -> list[tuple[str, bool]]:
    """Have the layer turn down what `bad` says of a text; returns what it was asked."""
    asked: list[tuple[str, bool]] = []

    def accepts(_: Safety, texts: list[str]) -> list[bool]:
        said = [not bad(text) for text in texts]
        asked.extend(zip(texts, said, strict=True))
        return said

    monkeypatch.setattr(Safety, "accepts", accepts)
    return asked


@pytest.mark.parametrize("trainer", BOTH)
def test_what_is_turned_down_is_drawn_again(
    tmp_path: Path, tiny_llama: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = turning_down(monkeypatch, lambda text: len(text) % 2)
    path = write_method_world(
        tmp_path, tiny_llama, trainer, stage={"safety": {"tries": 12}, "reuse": 1, "steps": 2}
    )
    _, logged = train(path)
    assert [set(step) >= {"safety/redrawn", "safety/refused"} for step in logged] == [True, True]
    assert max(step["safety/redrawn"] for step in logged) > 0
    assert all(step["safety/refused"] == 0 for step in logged)
    assert sum(safe for _, safe in asked) == 8


@pytest.mark.parametrize("trainer", BOTH)
def test_nothing_is_learned_from_what_is_never_accepted(
    tmp_path: Path, tiny_llama: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = turning_down(monkeypatch, lambda text: True)
    stage = {"safety": {"tries": 3}, "steps": 2, "beta": 0.5, "flat_reward_steps": 0}
    path = write_method_world(tmp_path, tiny_llama, trainer, stage=stage)
    training, logged = train(path)
    assert [step["safety/refused"] for step in logged] == [1.0]
    # Four answers, three tries each; there is no mean reward of none.
    assert len(asked) == 12
    assert "rewards/length/mean" not in logged[0]
    assert everything(training, 2)["weights"] == everything(training, 0)["weights"]


@pytest.mark.long
def test_the_shipped_layer_lets_harmless_answers_through(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_method_world(
        tmp_path, tiny_llama, "grpo", stage={"safety": {"tries": 2}, "steps": 2, "reuse": 1}
    )
    training, logged = train(path)
    assert all(0 <= step["safety/refused"] < 1 for step in logged)
    assert everything(training, 2)["weights"] != everything(training, 0)["weights"]
