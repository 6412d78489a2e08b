"""Rows of texts that states of a fixed size carry too: linear, convolution, state space."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backends.transformers.attention import Query, looking_up, weigh
from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.causal import ROWS, Causal
from harness.backends.transformers.rows import Rows

Label = tuple[Hashable, ...]
"""Which state of a model, the same in every cache that it makes."""
Place = tuple[Any, Any]
"""Where it lies: a table or list, and the key there."""


class StateRows(Rows):
    """`Rows` for models with such layers, among which those of attention are as in any other.

    A prompt is read whole, beside others of its length, since padding would move a state. A state
    is copied into its row, and moves with it.
    """

    reads = False

    def __init__(self, causal: Causal, *, rows: int, length: int) -> None:
        super().__init__(
            causal,
            rows=-(-rows // ROWS) * ROWS,
            length=length,
            tokens=0,
            beginnings=Beginnings(causal, [], tokens=0, at_once=1),
        )
        # The first cache that the model handed out, by the name under which it takes it back. Each
        # step puts the states of the rows being written where the model looks for them.
        self._kept: dict[str, Any] = {}
        self._places: dict[Label, Place] = {}
        self._states: dict[Label, Tensor] = {}

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

    def step(self, tokens: Tensor) -> Tensor:
        given = {label: buffer[: len(tokens)] for label, buffer in self._states.items()}
        for label, state in given.items():
            holder, key = self._places[label]
            holder[key] = state
        states = self._step(tokens, **self._kept, use_cache=True)
        for label, state in given.items():
            holder, key = self._places[label]
            if holder[key] is not state:
                state.copy_(holder[key])
        return states

    def keep(self, order: Sequence[int]) -> None:
        for target, origin in enumerate(order):
            if target != origin:
                for buffer in self._states.values():
                    buffer[target] = buffer[origin]
        if not order:
            # Nothing is left in the model's own parts, which make their states anew.
            for label, (holder, key) in self._places.items():
                if label[0] == "module":
                    holder[key] = None
        super().keep(order)

    def _read(self, texts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> Tensor:
        """The states at the last token of texts of one length, which are put into their rows."""
        device = self.causal.device
        ids = torch.tensor([list(text) for text in texts], device=device)
        positions = torch.arange(ids.shape[1], device=device).expand(len(ids), -1)

        def put(layer: int, keys: Tensor, values: Tensor) -> None:
            for some, *chain in zip(rows, keys, values, strict=True):
                self._put(layer, some, [part.transpose(0, 1) for part in chain])

        before = {label: holder[key] for label, (holder, key) in _of_modules(self.causal)}
        with looking_up(self.causal, _TextLookup(put)):
            # Without a cache to begin with: some forget the texts before only then.
            reading = self.causal.read(ids, position_ids=positions, use_cache=True)
        kept = _handed_out(self.causal, reading.output)
        (cache,) = kept.values()
        found = dict(_of_cache(cache))
        for label, (holder, key) in _of_modules(self.causal):
            if holder[key] is not before.get(label):
                found[label] = holder, key
        for label, (holder, key) in found.items():
            state = holder[key]
            if state.dim() > 1 and len(state) == len(texts):
                self._hold(label, state, rows)
        for layer in getattr(cache, "layers", ()):
            _forget(layer)
        if not self._kept:
            self._kept, self._places = kept, found
        return reading.states[:, -1]

    def _hold(self, label: Label, state: Tensor, rows: Sequence[Sequence[int]]) -> None:
        if label not in self._states:
            self._states[label] = state.new_zeros((self.rows, *state.shape[1:]))
            held = sum(buffer.nbytes for buffer in self._states.values())
            self.causal.row_bytes = held // self.rows
            # Where no layer is one of attention, a token takes nothing.
            self.causal.token_bytes = self.causal.token_bytes or 0
        for some, own in zip(rows, state, strict=True):
            self._states[label][list(some)] = own


def _handed_out(causal: Causal, output: Any) -> dict[str, Any]:
    """What the model remembers, by the name under which it takes that back. One that hands out none
    takes a cache all the same.
    """
    from transformers.cache_utils import DynamicCache

    for name in ("cache", "past_key_values", "cache_params"):
        carried = getattr(output, name, None)
        if carried is not None:
            return {name: carried}
    return {"past_key_values": DynamicCache(config=causal.model.config)}


def _of_cache(cache: Any) -> Iterator[tuple[Label, Place]]:
    """The states of the last reading in a cache that was handed out, and in its layers."""
    yield from _tensors(("cache",), vars(cache))
    for number, layer in enumerate(getattr(cache, "layers", ())):
        yield from _tensors(("layer", number), vars(layer))


def _of_modules(causal: Causal) -> Iterator[tuple[Label, Place]]:
    """What the model's own parts hold beside weights: some keep states there."""
    for number, module in enumerate(causal.base.modules()):
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield ("module", number, name), (vars(module), name)


def _tensors(label: Label, table: dict[str, Any]) -> Iterator[tuple[Label, Place]]:
    """Tensors in a table, and in its lists and tables; those that rows hold themselves left out."""
    for name, value in table.items():
        if name in ("keys", "values"):
            continue
        if isinstance(value, Tensor):
            yield (*label, name), (table, name)
        parts = value if isinstance(value, dict) else {}
        if isinstance(value, list):
            parts = dict(enumerate(value))
        for key, part in parts.items():
            if isinstance(part, Tensor):
                yield (*label, name, key), (value, key)


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
