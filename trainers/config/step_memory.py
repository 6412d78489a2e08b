"""Whether a training step is expected to fit a GPU's memory without recomputing activations."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainers.config.precision import WHOLE, Machine, Settled

if TYPE_CHECKING:
    from harness.models.resolve import ModelFiles
    from trainers.config.recipe import Recipe, Stage

SHARE = 0.9
"""Of the free memory: the rest is for what the allocator can't use."""


def step_bytes(
    *, layers: int, width: int, inner: int, vocabulary: int, tokens: int, settled: Settled
) -> float:
    """Memory of the activations of `tokens` tokens, in bytes: an upper estimate.

    Of each layer what the backward pass needs (Korthikanti et al., 2022, section 4.1, without
    attention's matrix, which fused kernels never keep, and with a gated MLP), and the logits in
    the steps' dtype and in float32 with their gradient.
    """
    size = 4 if settled.steps == WHOLE else 2
    of_a_layer = size * (12 * width + 5 * inner)
    return tokens * (layers * of_a_layer + vocabulary * (size + 8))


def weight_bytes(parameters: int, trained: int, settled: Settled) -> float:
    """Memory of weights, of gradients and of Adam's two moments, in bytes."""
    held = 4 if settled.weights == WHOLE else 2
    return float(held * parameters + 12 * trained)


def fits(
    recipe: Recipe, stage: Stage, base: ModelFiles, machine: Machine, settled: Settled
) -> bool:
    """Whether a step of the stage's longest rows fits; False where the base hasn't its sizes."""
    try:
        from transformers import AutoConfig

        config: Any = AutoConfig.from_pretrained(base.folder)
        text = config.get_text_config(decoder=True)
        layers, width = int(text.num_hidden_layers), int(text.hidden_size)
        vocabulary = int(text.vocab_size)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    inner = getattr(text, "intermediate_size", None)
    inner = inner if isinstance(inner, int) else 4 * width
    parameters = sum(path.stat().st_size for path in base.folder.glob("*.safetensors")) / 2
    trained = parameters if recipe.model.adapter_kind == "none" else 0.02 * parameters
    tokens = _rows_at_once(stage) * _longest(stage)
    needed = weight_bytes(int(parameters), int(trained), settled) + step_bytes(
        layers=layers,
        width=width,
        inner=inner,
        vocabulary=vocabulary,
        tokens=tokens,
        settled=settled,
    )
    return needed <= SHARE * machine.free_bytes


def fitting(recipe: Recipe, stage: Stage, base: ModelFiles) -> Callable[[Machine, Settled], bool]:
    return lambda machine, settled: fits(recipe, stage, base, machine, settled)


def _rows_at_once(stage: Stage) -> int:
    """Sequences in one pass of a process: a pair is two of them."""
    pairs = 2 if any(example.chosen is not None for example in stage.examples[:1]) else 1
    return pairs * max(1, stage.model.batch_size // int(os.environ.get("WORLD_SIZE", "1")))


def _longest(stage: Stage) -> int:
    """Tokens of the longest row at most: no tokenizer makes more than one a byte."""
    longest = max(
        sum(len(message["content"].encode()) for message in e.prompt)
        + max(len((text or "").encode()) for text in (e.text, e.completion, e.chosen, e.rejected))
        for e in stage.examples
    )
    return min(stage.data.max_length, longest + stage.model.max_new_tokens + 64)
