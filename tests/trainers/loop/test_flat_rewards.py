"""Rewards that tell no answer from another are said once, and end the training in time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.loop.flat_rewards import FlatRewards
from trainers.loop.stages import run_stages

NAN = float("nan")
FLAT: list[dict[str, Any]] = [
    {"reward": NAN, "reward_std": NAN, "frac_reward_zero_std": 0.0},
    {"reward": None, "reward_std": None, "frac_reward_zero_std": 0.0},
    {"reward": None},
    {"reward": 1.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0},
    {"reward": 0.5, "reward_std": 0.5, "frac_reward_zero_std": 1.0},
    {"reward": 0.0, "reward_std": 0.0},
]
GOOD = {"reward": 0.5, "reward_std": 0.2, "frac_reward_zero_std": 0.5}


def of(**keys: int) -> FlatRewards:
    model = SimpleNamespace(**{"steps": 100, "reuse": 1, "flat_reward_steps": 10, **keys})
    recipe: Any = SimpleNamespace(path=Path("recipe.yaml"))
    stage: Any = SimpleNamespace(model=model, number=1)
    return FlatRewards(recipe, stage)


@pytest.mark.parametrize("logs", FLAT)
def test_it_is_said_once_and_ends_after_ten(logs: dict[str, Any]) -> None:
    flat = of()
    said = [flat.hear(step, logs) for step in range(1, 10)]
    assert said[0] is not None
    assert "nothing is learned" in said[0]
    assert said[1:] == [None] * 8
    with pytest.raises(UserError, match="for 10 steps in a row") as refused:
        flat.hear(10, logs)
    assert "flat_reward_steps" in str(refused.value.hint)


def test_any_step_that_teaches_begins_the_count_anew() -> None:
    flat = of(flat_reward_steps=3)
    for step in range(1, 40):
        flat.hear(step, GOOD if step % 3 == 0 else FLAT[0])
    assert flat.hear(50, {"loss": 1.0}) is None


def test_a_stage_that_never_taught_anything_does_not_pass() -> None:
    flat = of(steps=4)
    for step in range(1, 4):
        flat.hear(step, FLAT[1])
    with pytest.raises(UserError):
        flat.hear(4, FLAT[1])


def test_nought_bears_any_number() -> None:
    flat = of(flat_reward_steps=0, steps=4)
    assert [flat.hear(step, FLAT[0]) is None for step in range(1, 99)] == [False] + [True] * 97


@pytest.mark.parametrize(
    ("trainer", "value", "says"),
    [
        ("grpo", "1.0", "the same reward"),
        ("ppo", "1.0", "the same reward"),
        ("grpo", "None", "no answer has a reward"),
        ("rloo", "None", "no answer has a reward"),
        ("ppo", "None", "no answer has a reward"),
    ],
)
def test_a_training_without_any_signal_is_ended(
    tmp_path: Path, tiny_llama: Path, trainer: str, value: str, says: str
) -> None:
    program = f"def same(completions, **kw): return [{value}] * len(completions)"
    (tmp_path / "mine.py").write_text(program, encoding="utf-8")
    stage = {"rewards": [{"kind": "function", "path": "mine.py:same"}], "flat_reward_steps": 2}
    path = write_method_world(tmp_path, tiny_llama, trainer, stage={**stage, "steps": 4})
    reporter: Any = Quiet()
    workspace = Workspace(tmp_path / "w").ensure()
    with Store(workspace) as store, pytest.raises(UserError, match=says):
        list(run_stages(load_recipe(path), workspace, store, reporter))
    said = [words[0] for words in reporter.of("say") if "nothing is learned" in words[0]]
    assert len(said) == 1
