"""What carries a model's state where `Slots` can't: a cache of the model's kind, or rereading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backends.transformers.causal import Causal

CARRIERS = ("past_key_values", "cache_params", "state", "mems")
"""The fields in which models hand out what they remember, and take it back."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is asked to remember.

    own      its own cache, as it hands it out; else transformers' for its layers' kinds
    placed   every token's position is said; else the model counts by itself
    dropped  ended rows are taken out of the cache; else they stay until all have ended
    """

    own: bool
    placed: bool
    dropped: bool


class Lockstep:
    """Rows of equal length in a cache of the model's kind."""

    refillable = False

    def __init__(self, causal: Causal, way: Way) -> None:
        self.causal = causal
        self.way = way
        self._carried: dict[str, Any] = {}
        self._length = 0
        # The cache's row of each sequence, and how many rows the cache has.
        self._at: list[int] = []
        self._rows = 0

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        ids = torch.tensor(prompts, device=self.causal.device)
        self._length = ids.shape[1]
        self._at, self._rows = list(range(len(source))), len(source)
        if not self.way.own:
            from transformers.cache_utils import DynamicCache

            self._carried = {"past_key_values": DynamicCache(config=self.causal.model.config)}
        if not self.way.dropped:
            # A cache that can't be cut can't be widened: each row is read by itself.
            ids = ids[torch.tensor(source, device=ids.device)]
        states = self._read(ids)
        if self.way.dropped and list(source) != list(range(len(prompts))):
            self._reorder(source)
            states = states[torch.tensor(source, device=ids.device)]
        return states

    def begin(self, steps: int) -> int:
        return len(self._at)

    def step(self, tokens: Tensor) -> Tensor:
        ids = tokens.new_zeros(self._rows)
        ids[torch.tensor(self._at, device=ids.device)] = tokens
        ids = ids[:, None]
        states = self._read(ids, torch.full_like(ids, self._length) if self.way.placed else None)
        self._length += 1
        return states if self._at == list(range(self._rows)) else states[self._at]

    def keep(self, order: Sequence[int]) -> None:
        self._at = [self._at[row] for row in order]
        if self._at and self.way.dropped:
            self._reorder(self._at)
            self._at, self._rows = list(range(len(order))), len(order)

    def _reorder(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self.causal.device)
        for cache in self._carried.values():
            cache.reorder_cache(index)

    def _read(self, ids: Tensor, places: Tensor | None = None) -> Tensor:
        positions = {} if places is None else {"position_ids": places}
        read = self.causal.read(ids, **positions, **self._carried, use_cache=True)
        if self.way.own:
            told = {name: getattr(read.output, name, None) for name in CARRIERS}
            self._carried = {name: value for name, value in told.items() if value is not None}
            if not self._carried:
                raise NotImplementedError("the model hands out nothing that it remembers")
        return read.states[:, -1]


class Reread:
    """Nothing is carried: every row's whole text is read again for each token."""

    def __init__(self, causal: Causal, *, refillable: bool = True) -> None:
        self.causal = causal
        self.refillable = refillable
        self._texts: list[list[int]] = []

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        self._texts += [list(prompts[index]) for index in source]
        return self._last(prompts)[torch.tensor(source, device=self.causal.device)]

    def begin(self, steps: int) -> int:
        return len(self._texts)

    def step(self, tokens: Tensor) -> Tensor:
        for text, token in zip(self._texts, tokens.tolist(), strict=True):
            text.append(token)
        return self._last(self._texts)

    def keep(self, order: Sequence[int]) -> None:
        self._texts = [self._texts[row] for row in order]

    def _last(self, texts: Sequence[Sequence[int]]) -> Tensor:
        states = self.causal.whole(padded(texts, self.causal.device))
        ends = torch.tensor([len(text) - 1 for text in texts], device=self.causal.device)
        return states[torch.arange(len(texts), device=self.causal.device), ends]


def padded(texts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(texts, longest): filled up on the right, where no real token looks, so without a mask."""
    longest = max(map(len, texts))
    return torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
