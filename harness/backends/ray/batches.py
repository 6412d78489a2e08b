"""Requests in batches, and what happens to a batch whose replica was lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ANSWERS_AT_ONCE = 256
"""The most answers in a batch: four times what a backend writes side by side, so that its rows are
rarely empty, and few enough that a lost batch costs little."""

FULL = 64
"""The answers that a backend writes side by side: a smaller batch leaves rows empty."""

TOKENS_AT_ONCE = 65_536
"""The most tokens in a batch, read and written."""

LOSSES = 4
"""How often a request may be lost, the last time in a batch of its own, until it is given up."""

PIECES = 16
"""How many pieces a batch that was lost twice is cut into: after two cuts, 256 requests are single
ones."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are asked together, and how often they were lost with their replica."""

    requests: tuple[Any, ...]
    losses: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether this is one request that was lost `LOSSES` times."""
        return len(self.requests) == 1 and self.losses >= LOSSES

    def after_a_loss(self) -> list[Batch]:
        """What to ask again: after the first loss the whole batch, which may have been bad luck;
        after later ones its pieces, to find a request that ends its replica.
        """
        losses = self.losses + 1
        count = len(self.requests)
        size = count if losses == 1 else math.ceil(count / PIECES)
        return [
            Batch(self.requests[start : start + size], losses) for start in range(0, count, size)
        ]


def in_batches(
    requests: Sequence[Any],
    size: Callable[[Any], tuple[int, int]],
    replicas: int,
    kin: Callable[[Any], Any] = lambda request: None,
) -> list[Batch]:
    """The requests in batches, longest first: a batch holds requests of like length, and no long
    one is left for the end. Those of one `kin` stand together: what they share is then read once.

    `size` gives a request's answers and tokens. Each of the `replicas` gets several batches where
    that leaves them full, and otherwise one.
    """
    sized = [(*size(request), request) for request in requests]
    longest: dict[Any, int] = {}
    for _, length, request in sized:
        longest[kin(request)] = max(length, longest.get(kin(request), 0))
    families = {key: number for number, key in enumerate(longest)}

    def place(one: tuple[int, int, Any]) -> tuple[int, int, int, str]:
        family = kin(one[2])
        return -longest[family], families[family], -one[1], one[2].id

    total = sum(answers for answers, _, _ in sized)
    several = max(math.ceil(total / (4 * replicas)), min(FULL, math.ceil(total / replicas)))
    most = min(ANSWERS_AT_ONCE, several)
    batches: list[Batch] = []
    batch: list[Any] = []
    held = read = 0
    for answers, length, request in sorted(sized, key=place):
        if batch and (held + answers > most or read + length > TOKENS_AT_ONCE):
            batches.append(Batch(tuple(batch)))
            batch, held, read = [], 0, 0
        batch.append(request)
        held, read = held + answers, read + length
    if batch:
        batches.append(Batch(tuple(batch)))
    return batches
