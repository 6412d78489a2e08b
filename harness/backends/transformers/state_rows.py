"""Rows of texts that states of a fixed size carry too: linear, convolution, state space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backends.transformers.attention import Query, looking_up, read, weigh
from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.causal import ROWS, Causal
from harness.backends.transformers.rows import Rows


class StateRows(Rows):
    """`Rows` for models with such layers, among which those of attention are as in any other.

    A prompt is read whole, beside others of its length, since padding would move a state. A state
    is copied into its row, and moves with it.
    """

    def __init__(self, causal: Causal, *, rows: int, length: int) -> None:
        super().__init__(
            causal,
            rows=-(-rows // ROWS) * ROWS,
            length=length,
            tokens=0,
            beginnings=Beginnings(causal, [], tokens=0, at_once=1),
        )
        # transformers' cache, of which each step is given the states of the rows being written.
        self._cache: Any = None
        self._states: dict[tuple[int, str, int], Tensor] = {}

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        places: dict[int, list[int]] = {}
        for row, index in enumerate(source, start=len(self.lengths)):
            places.setdefault(index, []).append(row)
        alike: dict[int, list[int]] = {}
        for index, prompt in enumerate(prompts):
            alike.setdefault(len(prompt), []).append(index)
        ends: dict[int, Tensor] = {}
        for indices in alike.values():
            rows = [places.get(index, []) for index in indices]
            states = self._read([prompts[index] for index in indices], rows)
            ends.update(zip(indices, states, strict=True))
        self.lengths += [len(prompts[index]) for index in source]
        return torch.stack([ends[index] for index in source])

    def step(self, tokens: Sequence[int]) -> Tensor:
        count = -(-len(tokens) // ROWS) * ROWS
        for (layer, name, number), buffer in self._states.items():
            getattr(self._cache.layers[layer], name)[number] = buffer[:count]
        kept = {"past_key_values": self._cache, "use_cache": True}
        states = read(self.causal, tokens, self.lengths, self._lookup(), **kept)
        self.lengths = [length + 1 for length in self.lengths]
        return states

    def keep(self, order: Sequence[int]) -> None:
        for target, origin in enumerate(order):
            if target != origin:
                for buffer in self._states.values():
                    buffer[target] = buffer[origin]
        super().keep(order)

    def _read(self, texts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> Tensor:
        """The states at the last token of texts of one length, which are put into their rows."""
        from transformers.cache_utils import DynamicCache

        device = self.causal.device
        cache = DynamicCache(config=self.causal.model.config)
        ids = torch.tensor([list(text) for text in texts], device=device)
        positions = torch.arange(ids.shape[1], device=device).expand(len(ids), -1)

        def put(layer: int, keys: Tensor, values: Tensor) -> None:
            for some, *chain in zip(rows, keys, values, strict=True):
                self._put(layer, some, [part.transpose(0, 1) for part in chain])

        with looking_up(self.causal, _TextLookup(put)):
            states = self.causal.states(
                ids, position_ids=positions, past_key_values=cache, use_cache=True
            )
        for layer, held in enumerate(cache.layers):
            for name in ("conv_states", "recurrent_states"):
                for number, state in getattr(held, name, {}).items():
                    if state is not None:
                        self._hold((layer, name, number), state, rows)
            _forget(held)
        if self._cache is None:
            self._cache = cache
        return states[:, -1]

    def _hold(
        self, key: tuple[int, str, int], state: Tensor, rows: Sequence[Sequence[int]]
    ) -> None:
        if key not in self._states:
            self._states[key] = state.new_zeros((self.rows, *state.shape[1:]))
        for some, own in zip(rows, state, strict=True):
            self._states[key][list(some)] = own


class _TextLookup:
    """Attention of texts of one length, read from their beginning."""

    takes_texts = True

    def __init__(self, put: Callable[[int, Tensor, Tensor], None]) -> None:
        self.put = put
        self._layer = 0

    def __call__(self, query: Query) -> Tensor:
        self.put(self._layer, query.keys, query.values)
        self._layer += 1
        texts, heads, length, _ = query.queries.shape
        shared = query.keys.shape[1]
        groups = heads // shared
        mask = query.seen.text(length, groups, query.keys)
        asking = query.queries.reshape(texts, shared, groups * length, -1)
        found = weigh(query, asking, query.keys, query.values, mask, length)
        return found.reshape(texts, heads, length, -1)


def _forget(layer: Any) -> None:
    """Let a cache's layer hand on keys and values as it gets them, and hold none: rows do that."""
    if hasattr(layer, "keys"):
        layer.keys = layer.values = None
    layer.update = lambda keys, values, *_, **__: (keys, values)
    layer.get_mask_sizes = lambda length: (length, 0)
    layer.get_seq_length = lambda: 0
