"""Every trainer under the gate: after a rollback it is as if the failed segment had never been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet, everything, never_fail
from trainers.checkpoints.state import TrainingState, save_state
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining

FAIL = VerdictOutcome.FAIL


def training_of(path: Path, store: Store, workspace: Workspace) -> GatedTraining:
    return GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]


def run(path: Path, *, fail: bool, dropped: tuple[int, ...] = ()) -> GatedTraining:
    """Train; with `fail`, the second checkpoint is judged to be worse and its data left out."""
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        training = training_of(path, store, workspace)
        never_fail(training, {(4, 1): FAIL} if fail else {})
        if dropped:
            digest, settled = training.plan.digest, training.stage_run.settled
            state = TrainingState(training.training_id, digest, dropped=dropped, settled=settled)
            save_state(training.record.path, state)
        result = training.run()
        assert result.status == "finished"
        assert result.rollbacks == (1 if fail else 0)
    return training


LORA = {"rank": 4, "alpha": 8}
METHODS = [
    ("reward", {}),
    ("dpo", {}),
    ("kto", {}),
    ("grpo", {}),
    ("ppo", {}),
    ("sft", {"dtype": "bfloat16"}),
]
MORE: list[tuple[str, dict[str, Any]]] = [
    ("sft", {}),
    ("rloo", {}),
    ("sft", {"adapter": {"kind": "prefix", "virtual_tokens": 4}}),
    ("dpo", {"adapter": {"kind": "none"}}),
    ("sft", {"adapter": {"kind": "none"}, "dtype": "bfloat16"}),
    ("sft", {"adapter": {**LORA, "kind": "dora"}, "dtype": "bfloat16"}),
    ("sft", {"adapter": {"kind": "prefix", "virtual_tokens": 4}, "dtype": "bfloat16"}),
    ("dpo", {"dtype": "bfloat16"}),
    ("grpo", {"dtype": "bfloat16"}),
    ("ppo", {"dtype": "bfloat16"}),
    ("reward", {"dtype": "bfloat16"}),
    ("reward", {"adapter": {"kind": "none"}}),
    ("grpo", {"stage": {"gradient_accumulation": 2, "reuse": 1}}),
    ("rloo", {"adapter": {"kind": "none"}, "stage": {"gradient_accumulation": 2}}),
    ("grpo", {"stage": {"safety": {"words": ["a", "o", "t"], "tries": 3}}}),
    ("rloo", {"stage": {"safety": {"words": ["a", "o", "t"], "tries": 3}}}),
    ("sft", {"adapter": {**LORA, "kind": "dora"}}),
    ("sft", {"adapter": {**LORA, "kind": "rslora", "bias": "lora_only"}}),
    ("sft", {"adapter": {**LORA, "modules_to_save": ["lm_head"]}}),
    (
        "sft",
        {
            "stage": {
                "loss": {
                    "focal_gamma": 2.0,
                    "ewc": {"weight": 5.0, "source": "pairs.jsonl", "samples": 4},
                }
            }
        },
    ),
    (
        "sft",
        {
            "stage": {
                "trainer_options": {
                    "packing": True,
                    "neftune_noise_alpha": 5.0,
                    "attention": "eager",
                    "optimizer": "adafactor",
                    "gradient_checkpointing": "on",
                }
            }
        },
    ),
]


@pytest.mark.parametrize(
    ("trainer", "world"),
    [*METHODS, *(pytest.param(*each, marks=pytest.mark.long) for each in MORE)],
)
def test_a_rollback_is_bit_exact(
    tmp_path: Path, tiny_llama: Path, trainer: str, world: dict[str, Any]
) -> None:
    """After it, every checkpoint equals that of a training that began without the bad segment."""
    back = run(write_method_world(tmp_path / "a", tiny_llama, trainer, **world), fail=True)
    clean = run(
        write_method_world(tmp_path / "b", tiny_llama, trainer, **world), fail=False, dropped=(2,)
    )
    assert back.state.dropped == clean.state.dropped == (2,)
    for step in (2, 4, 6):
        assert everything(back, step) == everything(clean, step)
    assert everything(back, 2)["weights"] != everything(back, 6)["weights"]
