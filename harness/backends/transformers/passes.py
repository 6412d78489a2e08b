"""One pass over pieces of texts: each token looks at its own text, in this pass or kept before."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from harness.backends.transformers.attention import KEYS, QUERIES, Query, read, weigh
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.prefix_tree import Course, Node, Piece

Chain = list[tuple[Tensor, Tensor]]
"""Keys and values of one text so far, (tokens, heads, width), one pair a layer."""
Put = Callable[[int, int, Tensor, Tensor], None]
"""Takes a piece's index, a layer's, and its keys and values."""


class PieceLookup:
    """Finds what pieces look at: their own text before them, in `kept` or in the same pass.

    `keep` is the piece, an index, whose text is kept in `found`; `put` is called with the layer,
    and keys and values as in a chain, for the text up to each of the pieces in `wanted`.
    """

    takes_texts = False

    def __init__(
        self,
        pieces: Sequence[Piece],
        kept: Chain,
        keep: int | None,
        wanted: Collection[int] = (),
        put: Put | None = None,
        *,
        narrowest: float = math.inf,
    ) -> None:
        self.narrowest = narrowest
        self.pieces, self.kept, self.keep = pieces, kept, keep
        self.wanted, self.put = wanted, put
        self.found: Chain = []
        self._layer = 0
        # The last piece that goes on from each.
        self._last = {piece.after: index for index, piece in enumerate(pieces)}

    def __call__(self, query: Query) -> Tensor:
        layer, self._layer = self._layer, self._layer + 1
        shape = (*query.queries.shape[:2], query.values.shape[-1])
        out = query.values.new_zeros(shape)
        texts: dict[int | None, tuple[Tensor, Tensor]] = {}
        row = 0
        for index, piece in enumerate(self.pieces):
            rows = slice(row, row := row + len(piece.tokens))
            before = self._before(piece, layer) if piece.after is None else texts[piece.after]
            wide = -(-piece.end // KEYS) * KEYS
            keys, values = (
                _line(None if before is None else before[n][: piece.start], own[rows], wide)
                for n, own in enumerate((query.keys, query.values))
            )
            if index in self._last or index == self.keep:
                texts[index] = keys, values
            if self._last[piece.after] == index and piece.after != self.keep:
                texts.pop(piece.after, None)
            if self.put is not None and index in self.wanted:
                self.put(index, layer, keys[: piece.end], values[: piece.end])
            first = query.seen.first if piece.end > self.narrowest else None
            out[rows] = _piece(query, query.queries[rows], piece.start, keys, values, first)
        if self.keep is not None:
            end = self.pieces[self.keep].end
            keys, values = texts[self.keep]
            self.found.append((keys[:end].clone(), values[:end].clone()))
        return out

    def _before(self, piece: Piece, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of what the piece goes on from that is not in this pass."""
        node = piece.node
        if node.parent is None and piece.start == node.start:
            behind: Chain | None = node.behind
            return None if behind is None else behind[layer]
        return self.kept[layer]


def _line(before: Tensor | None, own: Tensor, length: int) -> Tensor:
    """(length, heads, width): what came before, one's own, and zeros."""
    missing = length - len(own) - (0 if before is None else len(before))
    parts = [own, own.new_zeros((missing, *own.shape[1:]))]
    return torch.cat(parts if before is None else [before, *parts])


def _piece(
    query: Query,
    own: Tensor,
    start: int,
    keys: Tensor,
    values: Tensor,
    first_seen: Callable[[int], list[int]] | None,
) -> Tensor:
    """What the tokens from place `start` on see of their text, (tokens, heads, width).

    `first_seen` gives the first place that one sees, where that is asked for.
    """
    heads, shared = own.shape[1], keys.shape[1]
    groups = heads // shared
    end = start + len(own)
    first, last = start // QUERIES, -(-end // QUERIES)
    asking = own.new_zeros(((last - first) * QUERIES, *own.shape[1:]))
    asking[start - first * QUERIES : end - first * QUERIES] = own
    blocks = asking.view(last - first, QUERIES, shared, groups, -1).permute(0, 2, 3, 1, 4)
    blocks = blocks.reshape(last - first, shared, groups * QUERIES, -1)
    found = []
    block = first
    while block < last:
        # All blocks whose places end before the same multiple of KEYS.
        wide = -(-(block + 1) * QUERIES // KEYS) * KEYS
        until = min(last, wide // QUERIES)
        count = until - block
        # What the first of them sees, those that are not in this pass included.
        since = 0 if first_seen is None else first_seen(wide - KEYS)[0] // KEYS * KEYS
        mask = query.seen.blocks(block, count, groups, wide, own)[..., since:]
        line, meant = (
            part[since:wide].transpose(0, 1).expand(count, -1, -1, -1) for part in (keys, values)
        )
        found.append(
            weigh(query, blocks[block - first : until - first], line, meant, mask, QUERIES)
        )
        block = until
    seen = found[0] if len(found) == 1 else torch.cat(found)
    seen = seen.view(last - first, shared, groups, QUERIES, -1).permute(0, 3, 1, 2, 4)
    seen = seen.reshape((last - first) * QUERIES, heads, -1)
    return seen[start - first * QUERIES : end - first * QUERIES]


class TreeReader:
    """Reads a tree of texts in passes, and keeps of it what the next pass goes on from."""

    def __init__(self, causal: Causal, roots: Sequence[Node]) -> None:
        self.causal = causal
        self.course = Course(roots)
        self.kept = Chain()
        self._next = Chain()

    def read(
        self, pieces: Sequence[Piece], wanted: Collection[int] = (), put: Put | None = None
    ) -> Tensor:
        """The states, (tokens, width), of the pieces that `course.take` gave.

        `put` is given the texts up to the pieces in `wanted`, see `PieceLookup`.
        """
        node, end = self.course.goes_on_from
        ends = [(piece.node, piece.end) for piece in pieces]
        keep = ends.index((node, end)) if node is not None and (node, end) in ends else None
        narrow = self.causal.narrowest
        lookup = PieceLookup(pieces, self.kept, keep, wanted, put, narrowest=narrow)
        tokens = [token for piece in pieces for token in piece.tokens]
        places = [piece.start + n for piece in pieces for n in range(len(piece.tokens))]
        states = read(self.causal, tokens, places, lookup)
        # Without a piece of this pass to go on from, it is the beginning of what is kept.
        self._next = lookup.found if keep is not None else Chain() if node is None else self.kept
        return states

    def passed(self) -> None:
        """Go on behind the pieces that were read; else they are read again."""
        self.course.passed()
        self.kept = self._next
