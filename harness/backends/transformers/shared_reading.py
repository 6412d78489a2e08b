"""Log-probabilities of texts that begin alike: what they share is read once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from harness.backends.base import LogprobRequest, Logprobs
from harness.backends.transformers.causal import Causal, filled_up
from harness.backends.transformers.logprobs import (
    OUT_OF_MEMORY,
    POSITIONS_AT_ONCE,
    finished,
)
from harness.backends.transformers.passes import TreeReader
from harness.backends.transformers.prefix_tree import Node, Piece, Tokens, count, tree_of

LEAST = 64
"""Tokens of the smallest pass."""

Targets = dict[int, list[tuple[int, int]]]
"""By place: the requests that ask for what follows there, and which of their targets it is."""


def text_of(request: LogprobRequest) -> Tokens:
    """The tokens that are read: the last target is predicted and never read."""
    return (*request.context_ids, *request.target_ids[:-1])


class Questions:
    """What is asked of the texts of a tree, answered pass by pass.

    `requests` gives by the index of a text in the tree what is asked of it: the log-probabilities
    of its targets.
    """

    def __init__(
        self, causal: Causal, requests: Mapping[int, LogprobRequest], roots: Sequence[Node]
    ) -> None:
        self.causal = causal
        self.requests = requests
        self.values = {index: [0.0] * len(each.target_ids) for index, each in requests.items()}
        self._targets = _targets(requests, roots)

    def answer(self, pieces: Sequence[Piece], states: Tensor) -> set[int]:
        """Put what was asked of the pieces into `values`, from their states, (tokens, width).
        Returns the texts that were asked about.
        """
        rows: list[int] = []
        asked: list[list[tuple[int, int]]] = []
        first = 0
        for piece in pieces:
            targets = self._targets.get(id(piece.node), {})
            for place in range(piece.start, piece.end) if targets else ():
                if place in targets:
                    rows.append(first + place - piece.start)
                    asked.append(targets[place])
            first += len(piece.tokens)
        for some in range(0, len(rows), POSITIONS_AT_ONCE):
            part = slice(some, some + POSITIONS_AT_ONCE)
            self._follow(states[rows[part]], asked[part])
        return {index for each in asked for index, _ in each}

    def _follow(self, states: Tensor, asked: Sequence[Sequence[tuple[int, int]]]) -> None:
        """Find ln p of each target that is asked for at each of the states (n, width)."""
        logits = self.causal.wide_logits(filled_up(states)).float()
        places = [(row, one) for row, each in enumerate(asked) for one in each]
        pairs = [(row, self.requests[i].target_ids[number]) for row, (i, number) in places]
        rows, targets = torch.tensor(pairs, device=logits.device).unbind(1)
        found = (logits[rows, targets] - logits.logsumexp(dim=-1)[rows]).tolist()
        for (_, (index, number)), value in zip(places, found, strict=True):
            self.values[index][number] = value


class SharedReading:
    """Requests that fit the model as one tree of tokens, each of which is read once.

    A beginning becomes a node of its own where that saves `worth` tokens. `saved` of them in all
    are not read.
    """

    def __init__(self, causal: Causal, requests: Sequence[LogprobRequest], *, worth: int) -> None:
        self.causal = causal
        self.requests = requests
        texts = [text_of(request) for request in requests]
        self._roots = tree_of(texts, worth=worth)
        self.saved = sum(map(len, texts)) - count(self._roots)
        self._questions = Questions(causal, dict(enumerate(requests)), self._roots)

    def read(self, *, tokens: int) -> Iterator[Logprobs]:
        """Results as they are ready, in passes of at most `tokens` tokens.

        Where memory runs out, passes are halved; what can't be read in the smallest is an error.
        """
        reader = TreeReader(self.causal, self._roots)
        values = self._questions.values
        seconds = [0.0] * len(self.requests)
        while pieces := reader.course.take(tokens):
            started = time.perf_counter()
            try:
                asked = self._pass(reader, pieces)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if tokens > LEAST:
                    tokens = max(LEAST, tokens // 2)
                    continue
                for node in reader.course.skip():
                    for index in node.texts:
                        yield Logprobs(self.requests[index].id, (), 0.0, error=OUT_OF_MEMORY)
                continue
            reader.passed()
            elapsed = time.perf_counter() - started
            for index in asked:
                seconds[index] += elapsed
            for index in (i for piece in pieces if piece.ends for i in piece.node.texts):
                yield finished(self.requests[index], values[index], seconds[index])

    @torch.inference_mode()
    def _pass(self, reader: TreeReader, pieces: Sequence[Piece]) -> set[int]:
        return self._questions.answer(pieces, reader.read(pieces))


def _targets(requests: Mapping[int, LogprobRequest], roots: Sequence[Node]) -> dict[int, Targets]:
    """What is asked for in each node, by the node's `id`."""
    found: dict[int, Targets] = defaultdict(dict)
    waiting = list(roots)
    while waiting:
        end = waiting.pop()
        waiting += end.children
        for index in end.texts:
            if index not in requests:
                continue
            request, node = requests[index], end
            for number in reversed(range(len(request.target_ids))):
                place = len(request.context_ids) - 1 + number
                while place < node.start:
                    assert node.parent is not None
                    node = node.parent
                found[id(node)].setdefault(place, []).append((index, number))
    return found
