"""Cuts a training up over its processes: DeepSpeed's ZeRO-2 and ZeRO-3, and FSDP.

Which of them is a matter of the machine, not of the recipe: it is given on the command line, and
is not part of what names a training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.config.method_traits import traits_of
from trainers.config.run_options import Sharding

if TYPE_CHECKING:
    from trainers.config.recipe import Recipe


USE_DEEPSPEED = "ACCELERATE_USE_DEEPSPEED"


def require_sharding(recipe: Recipe, how: Sharding | None) -> None:
    """Raises UserError where the recipe can't be cut up that way on this machine."""
    if how is None:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise UserError(
            f"there is one process, and {how} shares a training among several",
            field="--shard",
            hint="torchrun --nproc-per-node N $(which ratchet) train RECIPE --shard " + how,
        )
    sampling = [stage for stage in recipe.stages if traits_of(stage.model.trainer).samples]
    if sampling and how == "fsdp":
        raise UserError(
            f"{sampling[0].model.trainer} draws answers from the model, of which FSDP leaves "
            "every process a part",
            file=recipe.path,
            field="--shard",
            hint="take --shard zero2, or zero3, which gathers the weights for the drawing",
        )
    if how != "zero2" and any(s.model.loss and s.model.loss.ewc for s in recipe.stages):
        raise UserError(
            f"EWC holds each weight to where it was, and {how} leaves no process with all of them",
            file=recipe.path,
            field="loss.ewc",
            hint="take --shard zero2, or replay general data in place of EWC",
        )
    if recipe.model.quantize or recipe.model.adapter_kind == "prefix":
        raise UserError(
            f"a quantized base and a prefix are not trained under {how}",
            file=recipe.path,
            field="quantize" if recipe.model.quantize else "adapter.kind",
            hint="leave out --shard, or train a LoRA adapter on the whole base",
        )
    _require_fsdp() if how == "fsdp" else _require_deepspeed()


def _require_fsdp() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "FSDP needs GPUs, and there is none here: on a CPU every process would silently keep "
            "the whole model",
            field="--shard",
            hint="take --shard zero2 or zero3, which run on CPUs, or a machine with GPUs",
        )


def _require_deepspeed() -> None:
    import importlib.util

    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            "DeepSpeed is not installed",
            field="--shard",
            hint="pip install 'ratchet-eval[deepspeed]'",
        )


def announce(how: Sharding | None, *, gpu: bool) -> None:
    """Tell accelerate and DeepSpeed before the processes find each other: both look once."""
    if how is None or how == "fsdp":
        return
    os.environ[USE_DEEPSPEED] = "true"
    if not gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"


def settings(how: Sharding | None) -> dict[str, Any]:
    """What `TrainingArguments` are given for it."""
    if how is None:
        return {}
    if how == "fsdp":
        whole = {"version": 2, "state_dict_type": "FULL_STATE_DICT"}
        return {"fsdp": True, "fsdp_config": whole, "gradient_checkpointing": False}
    return {
        "deepspeed": deepspeed_config(3 if how == "zero3" else 2),
        # With DeepSpeed a CPU is an accelerator like any other; and the processes have found each
        # other already, on a backend that transformers would not choose by itself there.
        "use_cpu": False,
        "accelerator_config": {"use_configured_state": True},
    }


def deepspeed_config(stage: int) -> dict[str, Any]:
    """Only what must be so; sizes and rates are the recipe's. Weights are gathered where they are
    saved, so that a checkpoint is a model like any other.
    """
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }


def require_sharded(how: Sharding | None, trainer: Any) -> None:
    """Raises UserError where the Trainer has quietly done otherwise."""
    if how is None:
        return
    if how == "fsdp":
        found = bool(trainer.is_fsdp_enabled)
    else:
        plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
        found = plugin is not None and plugin.zero_stage == (3 if how == "zero3" else 2)
    world = int(os.environ["WORLD_SIZE"])
    if not found or trainer.accelerator.num_processes != world:
        raise UserError(
            f"the training was to be cut up by {how} over {world} processes, and was not",
            field="--shard",
            hint="check the versions of accelerate and deepspeed, or leave out --shard",
        )


def scattered(how: Sharding | None) -> bool:
    """Whether no process has all the weights while it trains."""
    return how in ("zero3", "fsdp")


@contextmanager
def gathered(trainer: Any) -> Iterator[None]:
    """All weights in every process, for more than one pass over them: only ZeRO-3 scatters them."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if plugin is None or plugin.zero_stage != 3:
        yield
        return
    from trl.models.utils import unwrap_model_for_generation

    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator):
        yield


def forget_sharding() -> None:
    """Let a new Trainer be cut up: accelerate would give it the configuration of the one before."""
    from accelerate.state import AcceleratorState

    load_whole_again()
    AcceleratorState._reset_state()


def load_whole_again() -> None:
    """While DeepSpeed's configuration stands, transformers cuts up whatever is loaded, and waits
    for processes that load nothing: the judge's models are rank 0's alone.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset: Any = unset_hf_deepspeed_config
    unset()
