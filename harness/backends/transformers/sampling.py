"""Draws the next token from the answer's own seed, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.backends.base import GenerationSettings

# The set of top-p is nearly always among this many tokens, so the whole vocabulary is not sorted.
_NUCLEUS = 256
_GROUP = 16


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) from the seed's own Philox stream, one for each token."""
    return np.random.Generator(np.random.Philox(seed)).random(count)


def choose(
    logits: Tensor,
    draws: Tensor | Sequence[float] | None,
    settings: GenerationSettings,
    top: Tensor | None = None,
    *,
    unasked: bool = False,
) -> Tensor:
    """One token id per row of `logits` (rows, vocabulary), any float dtype; `draws` in [0, 1), one
    a row. A row with NaN in it gets some token, which the caller has to notice. `top` is each row's
    largest logit, where that is known. `unasked` reads nothing from the device: it ranks the whole
    vocabulary for top-p.

    Greedy at temperature 0. Otherwise by inverting the cumulative distribution, in the order of
    the vocabulary, at the row's own draw. An answer then depends on its own seed only: rounding
    differences between machines move a boundary by some 1e-7, and practically never an answer.
    Temperature comes first, then top-k, then top-p (the smallest set whose probability
    reaches it).
    """
    if settings.temperature == 0:
        best: Tensor = logits.argmax(dim=-1)
        return best
    scaled = logits.float() / settings.temperature
    if 0 < settings.top_k < scaled.shape[-1]:
        least = largest_of(scaled, settings.top_k)[:, -1:]
        scaled.masked_fill_(scaled < least, float("-inf"))
    # Dividing keeps the order, and what is filtered out is never the largest.
    largest = logits.amax(dim=-1) if top is None else top
    weights = scaled.sub_((largest.float() / settings.temperature)[:, None]).exp_()
    if settings.top_p < 1:
        weights = _nucleus(weights, settings.top_p, weights.shape[-1] if unasked else _NUCLEUS)
    if not isinstance(draws, Tensor):
        draws = torch.tensor(draws, dtype=torch.float64, device=logits.device)
    return _invert(weights, draws)


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Ln p of `ids` (rows) under `logits` (rows, vocabulary): the model's own distribution,
    before temperature and filters.
    """
    wide = logits.float()
    chosen: Tensor = wide.gather(-1, ids[:, None])[:, 0] - wide.logsumexp(dim=-1)
    return chosen


def _nucleus(weights: Tensor, top_p: float, ranked_first: int) -> Tensor:
    """`weights` (rows, vocabulary) with 0 outside the smallest set that has the share `top_p`.

    It is looked for among so many of the largest, and among more where it is not there.
    """
    size = weights.shape[-1]
    mass = weights.sum(dim=-1, keepdim=True) * top_p
    count = min(ranked_first, size)
    while True:
        ranked = largest_of(weights, count)
        below = ranked.cumsum(dim=-1) - ranked < mass
        # The whole set is among the ranked tokens once the last of them is outside it.
        if count == size or not bool(below[:, -1].any()):
            break
        count = min(count * 8, size)
    least = ranked.gather(-1, below.sum(dim=-1, keepdim=True).clamp(min=1) - 1)
    kept: Tensor = weights.masked_fill_(weights < least, 0.0)
    return kept


def largest_of(table: Tensor, count: int) -> Tensor:
    """The `count` largest of each row of `table` (rows, size), in descending order.

    They are among the `count` groups whose own largest are the largest, so that only those groups
    are sorted, and not the whole vocabulary.
    """
    rows, size = table.shape
    if size % _GROUP == 0 and size > 2 * _GROUP * count:
        groups = table.view(rows, _GROUP, -1)
        best = groups.amax(dim=1).topk(count, dim=-1, sorted=False).indices
        table = groups.gather(2, best[:, None].expand(-1, _GROUP, -1)).reshape(rows, -1)
    largest: Tensor = table.topk(count, dim=-1).values
    return largest


def _invert(weights: Tensor, draws: Tensor) -> Tensor:
    """First index, one a row, at which the running sum of the weights exceeds draw * total.

    Found in two levels, blocks and then tokens of one block, so that only one block a row and the
    blocks' sums are summed up in float64, not the vocabulary.
    """
    rows, size = weights.shape
    root = max(1, round(size**0.5))
    # A width that divides the vocabulary needs no copy of it.
    width = next((w for w in range(root, 2 * root) if size % w == 0), root)
    missing = -size % width
    padded = torch.nn.functional.pad(weights, (0, missing)) if missing else weights
    blocks = padded.view(rows, -1, width)
    # Within a block float32 is exact enough; in float64 it would be a copy of all.
    ends = blocks.sum(dim=-1).double().cumsum(dim=-1)
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
