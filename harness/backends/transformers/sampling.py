"""Draws the next token from the answer's own seed, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.backends.base import GenerationSettings

# The set of top-p is nearly always among this many tokens, so the whole vocabulary is not sorted.
_NUCLEUS = 256


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) from the seed's own Philox stream, one for each token."""
    return np.random.Generator(np.random.Philox(seed)).random(count)


def choose(logits: Tensor, draws: Sequence[float], settings: GenerationSettings) -> Tensor:
    """One token id per row of `logits` (rows, vocabulary), any float dtype; `draws` in [0, 1), one
    a row. A row with NaN in it gets some token, which the caller has to notice.

    Greedy at temperature 0. Otherwise by inverting the cumulative distribution, in the order of
    the vocabulary, at the row's own draw. An answer then depends on its own seed only: rounding
    differences between batch shapes move a boundary by some 1e-7, and practically never an
    answer. Temperature comes first, then top-k, then top-p (the smallest set whose probability
    reaches it).
    """
    if settings.temperature == 0:
        best: Tensor = logits.argmax(dim=-1)
        return best
    scaled = logits.float() / settings.temperature
    if 0 < settings.top_k < scaled.shape[-1]:
        least = scaled.topk(settings.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    weights = (scaled - scaled.amax(dim=-1, keepdim=True)).exp_()
    if settings.top_p < 1:
        weights = _nucleus(weights, settings.top_p)
    return _invert(weights, torch.tensor(draws, dtype=torch.float64, device=logits.device))


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Ln p of `ids` (rows) under `logits` (rows, vocabulary): the model's own distribution,
    before temperature and filters.
    """
    wide = logits.float()
    chosen: Tensor = wide.gather(-1, ids[:, None])[:, 0] - wide.logsumexp(dim=-1)
    return chosen


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """`weights` (rows, vocabulary) with 0 outside the smallest set that has the share `top_p`."""
    size = weights.shape[-1]
    mass = weights.sum(dim=-1, keepdim=True) * top_p
    count = min(_NUCLEUS, size)
    while True:
        ranked = weights.topk(count, dim=-1).values
        below = ranked.cumsum(dim=-1) - ranked < mass
        # The whole set is among the ranked tokens once the last of them is outside it.
        if count == size or not bool(below[:, -1].any()):
            break
        count = min(count * 8, size)
    least = ranked.gather(-1, below.sum(dim=-1, keepdim=True).clamp(min=1) - 1)
    kept: Tensor = weights.masked_fill(weights < least, 0.0)
    return kept


def _invert(weights: Tensor, draws: Tensor) -> Tensor:
    """First index, one a row, at which the running sum of the weights exceeds draw * total.

    Found in two levels, blocks and then tokens of one block, so that only the sums of blocks and
    one block a row are summed up in float64, not the vocabulary.
    """
    rows, size = weights.shape
    width = max(1, round(size**0.5))
    padded = torch.nn.functional.pad(weights, (0, -size % width))
    blocks = padded.view(rows, -1, width)
    ends = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    target = draws * ends[:, -1]
    block = torch.searchsorted(ends, target[:, None], right=True)[:, 0]
    block = block.clamp_(max=ends.shape[1] - 1)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    inside = blocks[torch.arange(rows, device=weights.device), block].double().cumsum(dim=-1)
    offset = torch.searchsorted(inside, (target - before)[:, None], right=True)[:, 0]
    # Rounding can leave the target a hair beyond the block's last possible token.
    last = (inside < inside[:, -1:]).sum(dim=-1)
    chosen: Tensor = block * width + torch.minimum(offset, last)
    return chosen
