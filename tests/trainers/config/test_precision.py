"""What a training's dtype is decided to be, on machines that are not at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.trainers.config.test_digests import identity, quantized
from tests.trainers.method_builders import write_method_world
from trainers.checkpoints.state import TrainingState, load_state, save_state
from trainers.config.load import load_recipe
from trainers.config.precision import Machine, Settled, settle, settled_before

CPU = Machine()
GPU = Machine("cuda", bfloat16=True, free_bytes=80 * 2**30)
OLD_GPU = Machine("cuda", bfloat16=False, free_bytes=16 * 2**30)
NONE = {"kind": "none"}
LORA: dict[str, Any] = {"rank": 4}


def settled(folder: Path, machine: Machine, trainer: str = "sft", **recipe: Any) -> Settled:
    loaded = load_recipe(write_method_world(folder, Path("nowhere"), trainer, **recipe))
    return settle(loaded, loaded.stages[0], machine, lambda *_: True)


@pytest.mark.parametrize(
    ("machine", "adapter", "dtype", "found"),
    [
        (CPU, LORA, "auto", ("float32", "float32", "float32")),
        (CPU, NONE, "auto", ("float32", "float32", "float32")),
        (CPU, LORA, "bfloat16", ("bfloat16", "bfloat16", "bfloat16")),
        (CPU, NONE, "bfloat16", ("float32", "bfloat16", "bfloat16")),
        (GPU, LORA, "auto", ("bfloat16", "bfloat16", "bfloat16")),
        (GPU, NONE, "auto", ("float32", "bfloat16", "bfloat16")),
        (GPU, LORA | {"bias": "all"}, "auto", ("float32", "bfloat16", "bfloat16")),
        (GPU, LORA | {"modules_to_save": ["lm_head"]}, "auto", ("float32", "bfloat16", "bfloat16")),
        (GPU, LORA, "float32", ("float32", "float32", "float32")),
        (GPU, LORA, "float16", ("float16", "float16", "float16")),
        (OLD_GPU, LORA, "auto", ("float32", "float32", "float32")),
        (OLD_GPU, LORA, "float16", ("float16", "float16", "float16")),
    ],
)
def test_a_frozen_base_is_held_in_it_and_what_is_trained_is_not(
    tmp_path: Path,
    machine: Machine,
    adapter: dict[str, Any],
    dtype: str,
    found: tuple[str, str, str],
) -> None:
    made = settled(tmp_path, machine, adapter=adapter, dtype=dtype)
    assert (made.weights, made.steps, made.scored) == found


def test_a_reward_model_is_read_whole(tmp_path: Path) -> None:
    made = settled(tmp_path, GPU, "reward")
    assert (made.weights, made.steps, made.scored) == ("float32", "bfloat16", "float32")


@pytest.mark.parametrize(("machine", "dtype"), [(CPU, "float16"), (OLD_GPU, "bfloat16")])
def test_a_dtype_that_the_machine_lacks_is_one_message(
    tmp_path: Path, machine: Machine, dtype: str
) -> None:
    with pytest.raises(UserError) as caught:
        settled(tmp_path, machine, dtype=dtype)
    assert caught.value.field == "dtype"
    assert "dtype: auto" in str(caught.value.hint)


def test_a_quantized_base_has_its_own(tmp_path: Path) -> None:
    recipe = load_recipe(quantized(tmp_path, quantize="4bit"))
    assert settle(recipe, recipe.stages[0], GPU, lambda *_: False) == settled_before(recipe, GPU)
    with pytest.raises(UserError, match="has its own `dtype`"):
        load_recipe(quantized(tmp_path, quantize="4bit", dtype="bfloat16"))


def test_it_names_another_training_only_where_it_is_written(tmp_path: Path) -> None:
    plain = identity(load_recipe(quantized(tmp_path)))
    assert identity(load_recipe(quantized(tmp_path, dtype="auto"))) == plain
    found = {str(identity(load_recipe(quantized(tmp_path, dtype=f"{kind}"))))
             for kind in ("bfloat16", "float16", "float32")}  # fmt: skip
    assert len(found | {str(plain)}) == 4


def test_a_training_that_noted_nothing_goes_on_as_it_began(tmp_path: Path) -> None:
    recipe = load_recipe(write_method_world(tmp_path, Path("nowhere"), "sft"))
    assert settled_before(recipe, CPU) == Settled()
    assert settled_before(recipe, GPU) == Settled(steps="bfloat16", recompute=True)
    path = tmp_path / "state.json"
    save_state(path, TrainingState("t", "p"))
    old = json.loads(path.read_text("utf-8"))
    del old["settled"]
    path.write_text(json.dumps(old), encoding="utf-8")
    state = load_state(path)
    assert state is not None
    assert state.settled is None
    save_state(path, TrainingState("t", "p", settled=Settled("bfloat16", "bfloat16", "bfloat16")))
    state = load_state(path)
    assert state is not None
    assert state.settled == Settled("bfloat16", "bfloat16", "bfloat16")
