"""Keys and values of the sequences being written, in rows that are refilled as they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from harness.backends.transformers.causal import Causal


class Memory(Protocol):
    """The keys and values of the rows being written, as the decoding loop uses them."""

    refillable: bool
    """Whether sequences may join while others are being written, and lengths may differ."""

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        """Read `prompts` once each; then add one row per entry of `source`, an index into them.

        Returns the states at each new row's last token, (rows, width).
        """
        ...

    def begin(self, steps: int) -> int:
        """Prepare for so many steps. How many tokens each is to be given: those of the rows, in
        order, and any that fill up.
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append to every row its token, (tokens,) on the device; the states, (tokens, width)."""
        ...

    def keep(self, order: Sequence[int]) -> None:
        """Row i becomes what row order[i] was; the others are dropped. order[i] >= i."""
        ...


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc,no-untyped-call,unused-ignore]
    """One layer's keys and values, (rows, heads, length, width); `table` says where to write."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, table: Slots) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.table = table

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, length = self.table.rows, self.table.length
        # Zeros, not uninitialized memory: the mask gives unused places the weight 0, and 0 times
        # NaN is NaN.
        self.keys, self.values = (
            states.new_zeros((rows, states.shape[1], length, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        table = self.table
        if table.source is not None:
            # Reading prompts. A prompt attends to itself alone, so that its own keys and values
            # are returned; the buffer gets a copy for each row that goes on from it.
            first, last = table.used, table.used + len(table.source)
            width = key_states.shape[2]
            self.keys[first:last, :, :width] = key_states[table.source]
            self.values[first:last, :, :width] = value_states[table.source]
            return key_states, value_states
        # Writing: one new token a row, at the row's own length.
        self.keys[table.row, :, table.place] = key_states[:, :, 0]
        self.values[table.row, :, table.place] = value_states[:, :, 0]
        used, width = table.used, table.width
        return self.keys[:used, :, :width], self.values[:used, :, :width]

    # What transformers derives from these two fits prompts, which begin at place 0. For single
    # tokens `Slots.step` gives the positions and the mask itself.

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return self.table.length

    def move(self, target: int, origin: int, length: int) -> None:
        self.keys[target, :, :length] = self.keys[origin, :, :length]
        self.values[target, :, :length] = self.values[origin, :, :length]


class Slots:
    """Rows of a buffer, of which the first `used` are being written, each with its own length.

    `rows` and `length` (in tokens) are the buffer's size.
    """

    refillable = True

    def __init__(self, causal: Causal, *, rows: int, length: int) -> None:
        self.causal = causal
        self.rows = rows
        self.length = length
        self.lengths: list[int] = []
        self.source: Tensor | None = None
        self.row = self.place = torch.empty(0, dtype=torch.long)
        self.width = 0
        self._layers = [_SlotLayer(self) for _ in range(causal.config.num_hidden_layers)]
        self._cache = Cache(layers=list(self._layers))

    @property
    def used(self) -> int:
        return len(self.lengths)

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        device = self.causal.device
        # Padding is on the right: tokens attend only to what is on their left.
        longest = max(map(len, prompts))
        padded = [[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts]
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        self.source = torch.tensor(source, device=device)
        try:
            states = self.causal.states(
                torch.tensor(padded, device=device), past_key_values=self._cache, use_cache=True
            )
        finally:
            added, self.source = self.source, None
        self.lengths += [len(prompts[index]) for index in source]
        last = states[torch.arange(len(prompts), device=device), ends]
        return last[added]

    def begin(self, steps: int) -> int:
        return self.used

    def step(self, tokens: Tensor) -> Tensor:
        device = self.causal.device
        self.row = torch.arange(self.used, device=device)
        self.place = torch.tensor(self.lengths, device=device)
        self.width = max(self.lengths) + 1
        # Each row sees its own length and no more: beyond it are the remains of earlier rows.
        seen = torch.arange(self.width, device=device) <= self.place[:, None]
        dtype = self.causal.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        states = self.causal.states(
            tokens[:, None],
            position_ids=self.place[:, None],
            attention_mask=mask[:, None, None, :],
            past_key_values=self._cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        return states[:, -1]

    def keep(self, order: Sequence[int]) -> None:
        for target, origin in enumerate(order):
            if target != origin:
                for layer in self._layers:
                    layer.move(target, origin, self.lengths[origin])
        self.lengths = [self.lengths[origin] for origin in order]
