"""The texts being written, a buffer row each, beside each other at any lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from harness.backends.base import LogprobRequest
from harness.backends.transformers.attention import Query, read, weigh
from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.passes import TreeReader
from harness.backends.transformers.prefix_tree import Piece
from harness.backends.transformers.shared_reading import Questions, text_of

WIDTH = 64
"""A row is looked at up to a multiple of this many places, which hangs on its own length alone."""


class Rows:
    """Rows of a buffer, of which the first are being written, each with its own length.

    `rows` and `length` (in tokens) are the buffer's size. Prompts are read in passes of at most
    `tokens` tokens, and go on from `beginnings` where they are among them.
    """

    refillable = True
    reads = True

    def __init__(
        self, causal: Causal, *, rows: int, length: int, tokens: int, beginnings: Beginnings
    ) -> None:
        self.causal = causal
        self.rows = rows
        self.length = -(-length // WIDTH) * WIDTH
        self.tokens = tokens
        self.beginnings = beginnings
        self.lengths: list[int] = []
        self._layers: list[tuple[Tensor, Tensor]] = []

    def admit(self, prompts: Sequence[Sequence[int]], source: Sequence[int]) -> Tensor:
        return self.admit_and_read(prompts, source, [])[0]

    def admit_and_read(
        self,
        prompts: Sequence[Sequence[int]],
        source: Sequence[int],
        given: Sequence[LogprobRequest],
    ) -> tuple[Tensor, list[list[float]]]:
        """As `admit`; and the log-probabilities of given texts' targets, from the same passes."""
        texts = [tuple(prompt) for prompt in prompts]
        count = len(texts)
        lines = [*texts, *map(text_of, given)]
        sizes = [*map(len, texts), *(len(request.context_ids) for request in given)]
        roots = self.beginnings.tree(lines, sizes)
        reader = TreeReader(self.causal, roots)
        questions = Questions(self.causal, dict(enumerate(given, start=count)), roots)
        places: dict[int, list[int]] = {}
        for row, index in enumerate(source, start=len(self.lengths)):
            places.setdefault(index, []).append(row)
        ends: dict[int, Tensor] = {}
        while pieces := reader.course.take(self.tokens):
            whole = [
                index
                for index, piece in enumerate(pieces)
                if piece.ends and min(piece.node.texts, default=count) < count
            ]

            def put(
                index: int, layer: int, *chain: Tensor, pieces: Sequence[Piece] = pieces
            ) -> None:
                rows = [row for text in pieces[index].node.texts for row in places.get(text, ())]
                self._put(layer, rows, chain)

            states = reader.read(pieces, whole, put)
            reader.passed()
            questions.answer(pieces, states)
            last = -1
            for piece in pieces:
                last += len(piece.tokens)
                if piece.ends:
                    ends.update(dict.fromkeys(piece.node.texts, states[last]))
        self.lengths += [len(texts[index]) for index in source]
        return torch.stack([ends[index] for index in source]), [*questions.values.values()]

    def step(self, tokens: Sequence[int]) -> Tensor:
        states = read(self.causal, tokens, self.lengths, self._lookup())
        self.lengths = [length + 1 for length in self.lengths]
        return states

    def keep(self, order: Sequence[int]) -> None:
        for target, origin in enumerate(order):
            if target != origin:
                length = self.lengths[origin]
                for layer in self._layers:
                    for part in layer:
                        part[target, :, :length] = part[origin, :, :length]
        self.lengths = [self.lengths[origin] for origin in order]

    def _put(self, layer: int, rows: Sequence[int], chain: Sequence[Tensor]) -> None:
        """Give the rows a layer's keys and values, each (length, heads, width)."""
        if layer == len(self._layers):
            # Zeros, not uninitialized memory: the mask gives unused places the weight 0, and 0
            # times NaN is NaN.
            keys, values = (
                part.new_zeros((self.rows, part.shape[1], self.length, part.shape[2]))
                for part in chain
            )
            self._layers.append((keys, values))
            places = self.rows * self.length
            self.causal.token_bytes = sum(
                part.nbytes // places for held in self._layers for part in held
            )
        for buffer, part in zip(self._layers[layer], chain, strict=True):
            for row in rows:
                buffer[row, :, : len(part)] = part.transpose(0, 1)

    def _lookup(self) -> _RowLookup:
        return _RowLookup(self._layers, self.lengths, self.causal.device)


class _RowLookup:
    """Finds what one new token a row looks at: the row, up to its own length."""

    takes_texts = False

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int], device: torch.device
    ) -> None:
        self.layers = layers
        self.places = torch.tensor(lengths, device=device)
        self.rows = torch.arange(len(lengths), device=device)
        wide = [(length // WIDTH + 1) * WIDTH for length in lengths]
        if device.type != "cpu":
            # There what is started is dear: one kernel for all rows, as wide as the longest.
            wide = [max(wide)] * len(wide)
        turns = [row for row in range(1, len(wide)) if wide[row] != wide[row - 1]]
        edges = [0, *turns, len(wide)]
        self.runs = [(a, b, wide[a]) for a, b in pairwise(edges)]
        self._layer = 0

    def __call__(self, query: Query) -> Tensor:
        keys, values = self.layers[self._layer]
        self._layer += 1
        count = len(self.places)
        heads, shared = query.queries.shape[1], keys.shape[1]
        keys[self.rows, :, self.places] = query.keys[:count]
        values[self.rows, :, self.places] = query.values[:count]
        out = query.values.new_zeros((len(query.queries), heads, values.shape[-1]))
        for first, last, wide in self.runs:
            asking = query.queries[first:last].view(last - first, shared, heads // shared, -1)
            mask = query.seen.rows((first, last, wide), self.places[first:last], wide, asking)
            found = weigh(
                query, asking, keys[first:last, :, :wide], values[first:last, :, :wide], mask, 1
            )
            out[first:last] = found.reshape(last - first, heads, -1)
        return out
