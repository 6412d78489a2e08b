"""In which dtype a stage's weights are held, its steps are taken and its checkpoints are scored."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from trainers.config.method_traits import traits_of

if TYPE_CHECKING:
    from pathlib import Path

    from trainers.config.recipe import Recipe, Stage

WHOLE = "float32"
Fits = Callable[["Machine", "Settled"], bool]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training finds: torch's type of the device (`cpu`, `cuda` …), whether it computes in
    bfloat16, and the device memory that is free, in bytes (0 where that can't be told).
    """

    device: str = "cpu"
    bfloat16: bool = True
    free_bytes: int = 0

    @property
    def is_gpu(self) -> bool:
        return self.device == "cuda"

    @classmethod
    def here(cls) -> Machine:
        import torch

        if not torch.cuda.is_available():
            return cls()
        # Of its own card: to ask another would take some of that one's memory.
        card = int(os.environ.get("LOCAL_RANK", "0"))
        return cls("cuda", torch.cuda.is_bf16_supported(), int(torch.cuda.mem_get_info(card)[0]))


@dataclass(frozen=True, slots=True)
class Settled:
    """What was decided once, as a training began, and holds for as long as it goes on.

    weights    dtype of the weights that are held while it trains; an adapter's are float32
    steps      dtype in which a step computes (autocast); float32: nothing is rounded
    scored     dtype of the weights that checkpoints are scored with
    recompute  whether activations are computed once more in the backward pass, to save memory
    """

    weights: str = WHOLE
    steps: str = WHOLE
    scored: str = WHOLE
    recompute: bool = False

    def __str__(self) -> str:
        """In words; empty where all is in float32."""
        if self == Settled():
            return ""
        again = "activations recomputed" if self.recompute else "activations kept"
        return (
            f"weights in {self.weights}, steps in {self.steps}, checkpoints scored in "
            f"{self.scored}, {again}"
        )


def settled_before(recipe: Recipe, machine: Machine) -> Settled:
    """How trainings went that noted nothing: steps in bfloat16 over whole weights on a GPU."""
    if not machine.is_gpu:
        return Settled()
    steps = "bfloat16" if machine.bfloat16 else WHOLE
    return Settled(steps=steps, recompute=recipe.model.adapter_kind != "prefix")


def settle(recipe: Recipe, stage: Stage, machine: Machine, fits: Fits) -> Settled:
    """For a training that begins on `machine`. `fits` says whether a step that is taken so fits its
    memory without recomputed activations. Raises UserError for a dtype that it lacks.

    A base that stays frozen under an adapter is held in the dtype that is wanted. What is trained
    itself (the whole model, saved modules, biases) keeps weights in float32, since a step is
    smaller than what bfloat16 can tell apart; its steps compute in that dtype, and its checkpoints
    are scored in it. A reward model is read in float32 wherever it is used.
    """
    found = _dtypes(recipe, stage, machine)
    recompute = stage.model.trainer_options.recompute
    if recompute is None:
        may = machine.is_gpu and recipe.model.adapter_kind != "prefix"
        recompute = may and not fits(machine, found)
    return replace(found, recompute=recompute)


def _dtypes(recipe: Recipe, stage: Stage, machine: Machine) -> Settled:
    require_dtype(recipe, machine)
    if recipe.model.quantize is not None:
        return settled_before(recipe, machine)
    wanted: str = recipe.model.dtype
    if wanted == "auto":
        wanted = "bfloat16" if machine.is_gpu and machine.bfloat16 else WHOLE
    if not traits_of(stage.model.trainer).continues:
        return Settled(steps=wanted)
    weights = wanted if _is_frozen(recipe) else stage.model.trainer_options.master_weights
    return Settled(weights, wanted, wanted)


def _is_frozen(recipe: Recipe) -> bool:
    adapter = recipe.model.adapter
    return (
        adapter is not None
        and adapter.kind != "none"
        and adapter.bias == "none"
        and not adapter.modules_to_save
    )


def require_dtype(recipe: Recipe, machine: Machine, *, file: Path | None = None) -> None:
    """Raises UserError where the recipe asks for a dtype in which this machine can't train."""
    wanted = recipe.model.dtype
    if wanted == "float16" and not machine.is_gpu:
        lacks = "steps in float16 need a CUDA device, and there is none here"
    elif wanted == "bfloat16" and not machine.bfloat16:
        lacks = "this GPU has no bfloat16"
    else:
        return
    raise UserError(
        lacks,
        file=file or recipe.path,
        field="dtype",
        hint="write `dtype: auto`, which takes what the machine has, or train on another machine",
    )
