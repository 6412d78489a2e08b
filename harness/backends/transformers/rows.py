"""The texts being written, a buffer row each, beside each other at any lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from harness.backends.base import LogprobRequest
from harness.backends.transformers.attention import Query, Seen, read_rows, weigh
from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.causal import ROWS, Causal
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
        # Where each row's next token goes, in as many places as a step has rows that fill up.
        filled = -(-rows // ROWS) * ROWS
        self.places = torch.zeros(filled, dtype=torch.long, device=causal.device)
        self._all = torch.arange(rows, device=causal.device)
        # Of the steps to come: how many rows the model reads, and how many of them look; and where
        # the shapes stay the same, how wide all of these look.
        self._count = self._looking = 0
        self._wide: int | None = None
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

    @property
    def shape(self) -> tuple[int, int | None]:
        """What all steps since `begin` have in common."""
        return self._count, self._wide

    def begin(self, steps: int) -> int:
        used, device = len(self.lengths), self.places.device
        self._count, self._looking, self._wide = -(-used // ROWS) * ROWS, used, None
        if self.causal.look > 1:
            # Few shapes, which repeat: all rows as wide as the longest will be.
            self._count = min(next(n for n in _bucket(ROWS) if n >= used), len(self.places))
            self._looking = min(self._count, self.rows)
            last = max(self.lengths) + steps
            self._wide = min(next(n for n in _bucket(WIDTH) if n >= last), self.length)
        filling = [0] * (self._count - used)
        self.places[: self._count] = torch.tensor([*self.lengths, *filling], device=device)
        return self._count

    def step(self, tokens: Tensor) -> Tensor:
        return self._step(tokens)

    def _step(self, tokens: Tensor, **arguments: Any) -> Tensor:
        places, looking = self.places[: self._count], self._looking
        lookup = _RowLookup(self._layers, places[:looking], self._all[:looking], self._runs())
        if self._wide is None and max(self.lengths) >= self.causal.narrowest:
            lookup.lengths = tuple(self.lengths)
        states = read_rows(self.causal, tokens, places, lookup, **arguments)
        places.add_(1)
        self.lengths = [length + 1 for length in self.lengths]
        return states

    def _runs(self) -> list[tuple[int, int, int]]:
        """Rows that look equally far: the first, the one after the last, and how far."""
        if self._wide is not None:
            return [(0, self._looking, self._wide)]
        wide = [(length // WIDTH + 1) * WIDTH for length in self.lengths]
        turns = [row for row in range(1, len(wide)) if wide[row] != wide[row - 1]]
        return [(a, b, wide[a]) for a, b in pairwise([0, *turns, len(wide)])]

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


def _bucket(least: int) -> Iterator[int]:
    """The sizes that shapes have: `least` times 1, 2, 3, 4, 6, 8, 12, and so on."""
    for power in itertools.count():
        yield least * 2**power
        if power:
            yield least * 3 * 2 ** (power - 1)


class _RowLookup:
    """Finds what one new token a row looks at: the row, up to its own length."""

    takes_texts = False

    def __init__(
        self,
        layers: Sequence[tuple[Tensor, Tensor]],
        places: Tensor,
        rows: Tensor,
        runs: Sequence[tuple[int, int, int]],
    ) -> None:
        self.layers, self.places, self.rows, self.runs = layers, places, rows, runs
        # The rows' lengths, where a row is looked at only from the first place that it sees.
        self.lengths: tuple[int, ...] | None = None
        self._layer = 0

    def _parts(self, seen: Seen) -> Iterator[tuple[int, int, int, int]]:
        """Rows that look alike: the first, the one after the last, from where and how far."""
        if self.lengths is None:
            yield from ((first, last, 0, wide) for first, last, wide in self.runs)
            return
        since = [first // WIDTH * WIDTH for first in seen.first(*self.lengths)]
        for first, last, wide in self.runs:
            turns = [row for row in range(first + 1, last) if since[row] != since[row - 1]]
            for a, b in pairwise([first, *turns, last]):
                yield a, b, since[a], wide

    def __call__(self, query: Query) -> Tensor:
        keys, values = self.layers[self._layer]
        self._layer += 1
        heads, shared = query.queries.shape[1], keys.shape[1]
        count = len(self.rows)
        keys[self.rows, :, self.places] = query.keys[:count]
        values[self.rows, :, self.places] = query.values[:count]
        out = query.values.new_zeros((len(query.queries), heads, values.shape[-1]))
        for first, last, since, wide in self._parts(query.seen):
            asking = query.queries[first:last].view(last - first, shared, heads // shared, -1)
            mask = query.seen.rows((first, last, wide), self.places[first:last], wide, asking)
            seen, seen_values = (part[first:last, :, since:wide] for part in (keys, values))
            found = weigh(query, asking, seen, seen_values, mask[..., since:], 1)
            out[first:last] = found.reshape(last - first, heads, -1)
        return out
