"""Attention: which tokens of a question the model looks at as it writes the answer."""

from __future__ import annotations

from typing import Any

from harness.attribution.likelihood import Asked

CAUTION = (
    "Attention is where the model looks, not why it answers: other weights of attention often give "
    "the same answer. Trust what leaving words out does."
)


def attention(model: Any, asked: Asked) -> tuple[float, ...]:
    """The share of its attention that the answer's tokens give to each token asked about, as a mean
    over layers, heads and tokens of the answer; 0 to 1, and less than 1 in all.
    """
    import torch

    from harness.backends.transformers.causal import evaluating

    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad(), evaluating(model):
            ids = torch.tensor([asked.ids], device=model.device)
            layers = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(before)
    first = len(asked.prompt) - 1
    looks = [each[0, :, first : first + len(asked.answer)].float().mean((0, 1)) for each in layers]
    mean = sum(looks[1:], looks[0]) / len(looks)
    return tuple(float(value) for value in mean[asked.begin : asked.end])
