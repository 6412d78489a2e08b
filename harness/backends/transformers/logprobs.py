"""Log-probabilities of given tokens, without a log-softmax over the whole vocabulary."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch

from harness.backends.base import LogprobRequest, Logprobs
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.lockstep import padded

NOT_FINITE = "a token has no finite log-probability: the model's weights are broken or diverged"

OUT_OF_MEMORY = "out of memory with this text alone"

POSITIONS_AT_ONCE = 512
"""How many positions have their logits, each as wide as the vocabulary, made at a time: all of a
batch's would take much memory."""


def read_whole(
    causal: Causal, requests: Sequence[LogprobRequest], *, tokens: int
) -> Iterator[Logprobs]:
    """Score requests that fit the model, each text whole; `tokens` bounds a batch with its padding.

    Where memory runs out a batch is halved; a text that has too little by itself is an error.
    """
    batches = deque(_batches(causal, requests, tokens))
    while batches:
        batch = batches.popleft()
        started = time.perf_counter()
        try:
            scored = _score(causal, batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(batch) > 1:
                half = len(batch) // 2
                batches.extendleft([batch[half:], batch[:half]])  # which reverses them
                continue
            elapsed = time.perf_counter() - started
            yield Logprobs(batch[0].id, (), elapsed, error=OUT_OF_MEMORY)
            continue
        elapsed = time.perf_counter() - started
        for request, logprobs in zip(batch, scored, strict=True):
            yield finished(request, logprobs, elapsed)


def finished(request: LogprobRequest, values: Sequence[float], seconds: float) -> Logprobs:
    """The result of a request whose targets have these log-probabilities."""
    if all(map(math.isfinite, values)):
        return Logprobs(request.id, tuple(values), seconds)
    return Logprobs(request.id, (), seconds, error=NOT_FINITE)


def _batches(
    causal: Causal, requests: Sequence[LogprobRequest], tokens: int
) -> Iterator[list[LogprobRequest]]:
    """Longest first: what is too big for the machine shows at once, and little is padded. What
    can't be read together (`Causal.turns_at`, `Causal.pads`) is kept apart.
    """
    turns_at = causal.turns_at or math.inf
    batch: list[LogprobRequest] = []
    for request in sorted(requests, key=lambda r: -_length(r)):
        size, longest = _length(request), _length(batch[0]) if batch else 0
        apart = longest > turns_at >= size or (not causal.pads and longest != size)
        if batch and (apart or (len(batch) + 1) * longest > tokens):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


def _length(request: LogprobRequest) -> int:
    """Tokens that the model reads: the last target is predicted and never read."""
    return len(request.context_ids) + len(request.target_ids) - 1


def _read(causal: Causal, request: LogprobRequest) -> tuple[int, ...]:
    line = (*request.context_ids, *request.target_ids)
    longest = getattr(causal.config, "max_position_embeddings", None)
    # A model that sees a text's length is asked about the whole text; for any other the last
    # token needs no reading.
    whole = not causal.pads and (longest is None or len(line) <= longest)
    return line if whole else line[:-1]


@torch.inference_mode()
def _score(causal: Causal, batch: list[LogprobRequest]) -> list[tuple[float, ...]]:
    device = causal.device
    lines = [_read(causal, request) for request in batch]
    states = causal.whole(padded(lines, device))
    places = [
        (row, column)
        for row, request in enumerate(batch)
        for column in range(len(request.context_ids) - 1, _length(request))
    ]
    rows, columns = torch.tensor(places, device=device).unbind(1)
    targets = torch.tensor([t for request in batch for t in request.target_ids], device=device)
    values: list[float] = []
    for start in range(0, len(places), POSITIONS_AT_ONCE):
        some = slice(start, start + POSITIONS_AT_ONCE)
        logits = causal.logits(states[rows[some], columns[some]]).float()
        chosen = logits.gather(1, targets[some, None])[:, 0]
        values += (chosen - logits.logsumexp(dim=-1)).tolist()
    each = iter(values)
    return [tuple(next(each) for _ in request.target_ids) for request in batch]
