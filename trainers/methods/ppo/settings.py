"""PPO's settings and their checks, and the value head that travels in the adapter.

TRL has no PPO outside its experimental part, so this one is ours, on the plain
`transformers.Trainer` (Schulman et al., 2017; the defaults are that paper's, or the customary
ones for language models where it names none).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError

if TYPE_CHECKING:
    pass

VALUE_HEAD = "value_head"
"""The module that belongs into the adapter's `modules_to_save`."""

LARGEST_BATCH = 4096
"""Answers behind one optimizer step, gradient accumulation included."""


def period(stage: Any) -> int:
    """K, the optimizer steps that learn from one rollout. A state between two of its multiples
    can't be gone back to, because its rollout is not part of a checkpoint.
    """
    return int(stage.ppo.epochs * stage.ppo.minibatches)


def prompts_in(stage: Any, steps: int) -> int:
    """How many prompts `steps` optimizer steps (a multiple of the period) consume."""
    return int(steps // stage.ppo.epochs * stage.batch_size * stage.gradient_accumulation)


def with_value_head(model: Any) -> Any:
    """The language model with a linear head, hidden size to 1, that starts at 0.

    Put on before the adapter, which must name it in `modules_to_save`: so it is trained, saved
    and restored with the adapter, and ignored where the adapter is loaded for its answers.
    """
    import torch

    size = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(size, 1, dtype=torch.float32, device=model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    setattr(model, VALUE_HEAD, head)
    return model


def check(stage: Any, *, file: Path | None = None) -> None:
    """Raise UserError where a stage's numbers don't fit PPO."""
    every = period(stage)
    if stage.checkpoint_every % every:
        raise UserError(
            f"checkpoint_every ({stage.checkpoint_every}) must be a multiple of epochs x "
            f"minibatches ({every}): between them a rollout is half learned from",
            file=file,
            field="stages.checkpoint_every",
            hint=f"set it to {max(1, round(stage.checkpoint_every / every)) * every}",
        )
    batch = stage.batch_size * stage.gradient_accumulation
    if batch > LARGEST_BATCH:
        raise UserError(
            f"a batch of {batch} answers is more than {LARGEST_BATCH}",
            file=file,
            field="stages.gradient_accumulation",
            hint="take smaller batches, or more minibatches",
        )
