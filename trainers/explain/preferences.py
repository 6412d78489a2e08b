"""How much learning from each pair raised the loss on given texts, by DPO's own gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.explain.influence import Tokens, losses_at, on_the_way

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with the answer that is to be preferred, and with the other one."""

    chosen: Tokens
    rejected: Tokens


def pair_influence(
    model: Any,
    pairs: Sequence[Pair],
    texts: Sequence[Tokens],
    *,
    first: Mapping[str, Tensor],
    beta: float,
    end: Mapping[str, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[float]:
    """As `influence`, of rows that are pairs: > 0 where learning from it raised the loss of texts.

    A pair's loss is DPO's, -ln sigma(beta * margin): by how much more likely the chosen answer has
    become than the rejected one since the stage began, with the trainable weights `first`. So its
    gradient is that of both answers, weighed by how wrong the model still ranks them.
    """
    rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
    at_first = losses_at(model, rows, first)
    found = on_the_way(
        model, rows, texts, end=end, progress=lambda done, of: progress(done // 2, of // 2)
    )
    gained = [was - now for was, (now, _) in zip(at_first, found, strict=True)]
    slopes = [slope for _, slope in found]
    return [
        -_sigmoid(-beta * (chosen - rejected)) * beta * (up - down)
        for chosen, rejected, up, down in zip(
            gained[::2], gained[1::2], slopes[::2], slopes[1::2], strict=True
        )
    ]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
