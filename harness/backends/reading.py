"""Log-probabilities of given tokens, without a vocabulary-wide log-softmax of everything."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from harness.backends.base import LogprobRequest, Logprobs
from harness.backends.causal import Causal

POSITIONS_AT_ONCE = 512
"""How many positions have their logits made at a time."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a request that the model reads at once.

    The model reads `ids`; the last `scored` of the tokens that follow ids[0] are scored.
    `start` is the index of the first of them among the request's targets.
    """

    request: int
    ids: tuple[int, ...]
    scored: int
    start: int


def windows(request: LogprobRequest, index: int, max_length: int) -> list[Window]:
    """The whole request where it fits; else windows of `max_length` tokens, each target in one.

    Every window but the first begins with one token of the text before it as context, the last
    one with as much of it as fits: the rolling scheme in which perplexity is usually reported.
    """
    context, target = request.context_ids, request.target_ids
    line = context + target
    if len(line) <= max_length + 1:
        return [Window(index, line, len(target), 0)]
    spans = []
    first = max_length + 1 - len(context)
    spans.append(Window(index, line[: max_length + 1], first, 0))
    done = first
    while done < len(target):
        scored = min(max_length, len(target) - done)
        end = len(context) + done + scored
        spans.append(Window(index, line[end - max_length - 1 : end], scored, done))
        done += scored
    return spans


def read(
    causal: Causal, requests: Sequence[LogprobRequest], *, max_length: int, tokens: int
) -> Iterator[Logprobs]:
    """Score requests whose contexts fit; `tokens` bounds a batch with its padding."""
    spans = [w for i, request in enumerate(requests) for w in windows(request, i, max_length)]
    missing: dict[int, int] = defaultdict(int)
    for span in spans:
        missing[span.request] += 1
    values: dict[int, list[float]] = {
        i: [0.0] * len(request.target_ids) for i, request in enumerate(requests)
    }
    spent: dict[int, float] = defaultdict(float)
    for batch in _batches(spans, tokens):
        started = time.perf_counter()
        scored = _score(causal, batch)
        elapsed = time.perf_counter() - started
        for span, logprobs in zip(batch, scored, strict=True):
            values[span.request][span.start : span.start + span.scored] = logprobs
            spent[span.request] += elapsed
            missing[span.request] -= 1
            if not missing[span.request]:
                done = tuple(values.pop(span.request))
                yield Logprobs(requests[span.request].id, done, spent[span.request])


def _batches(spans: list[Window], tokens: int) -> Iterator[list[Window]]:
    """Longest first: what is too big shows at once, and little is padded."""
    ordered = sorted(spans, key=lambda span: -len(span.ids))
    batch: list[Window] = []
    for span in ordered:
        if batch and (len(batch) + 1) * len(batch[0].ids) > tokens:
            yield batch
            batch = []
        batch.append(span)
    if batch:
        yield batch


@torch.inference_mode()
def _score(causal: Causal, batch: list[Window]) -> list[list[float]]:
    device = causal.device
    # The last token is predicted and never read. Padding stands on the right, where no real
    # token looks, so no mask is needed.
    longest = max(len(span.ids) for span in batch) - 1
    padded = [[*span.ids[:-1], *[0] * (longest - len(span.ids) + 1)] for span in batch]
    states = causal.states(torch.tensor(padded, device=device), use_cache=False)
    places = [
        (row, len(span.ids) - 1 - span.scored + i)
        for row, span in enumerate(batch)
        for i in range(span.scored)
    ]
    targets = torch.tensor(
        [t for span in batch for t in span.ids[len(span.ids) - span.scored :]], device=device
    )
    rows, columns = torch.tensor(places, device=device).unbind(1)
    values: list[float] = []
    for start in range(0, len(places), POSITIONS_AT_ONCE):
        some = slice(start, start + POSITIONS_AT_ONCE)
        logits = causal.logits(states[rows[some], columns[some]]).float()
        chosen = logits.gather(1, targets[some, None])[:, 0]
        values += (chosen - logits.logsumexp(dim=-1)).tolist()
    split: list[list[float]] = []
    for span in batch:
        split.append(values[: span.scored])
        del values[: span.scored]
    return split
