"""Integrated Gradients: how much of a log-probability each token of a question carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.attribution.likelihood import (
    AT_ONCE,
    Asked,
    answer_logprob,
    begins,
    embedded,
    without,
)

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 64
LOOKS = 64
"""Values along the way, without a gradient, by which its sections are chosen."""
ORDER = 4
"""Gradients to each section."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """Nats that each token asked about adds to log p(answer), which is `whole` with the question
    and `empty` without it; their sum is whole − empty but for what the steps leave (`gap`, a share
    of it).
    """

    tokens: tuple[float, ...]
    whole: float
    empty: float

    @property
    def gap(self) -> float:
        moved = self.whole - self.empty
        return abs(sum(self.tokens) - moved) / max(abs(moved), 1e-9)


def integrated_gradients(
    model: Any, asked: Asked, *, steps: int = STEPS, adapted: bool = True
) -> Attributed:
    """By the rule of Gauss and Legendre over the straight way from a question of no words
    (`likelihood.without`) to the question (Sundararajan et al., 2017).

    The way is not even: where norms make the most of little, log p moves much. `adapted` cuts it
    into sections by how much it moves there, `ORDER` of the `steps` in each; otherwise the rule is
    one over the whole way, as captum's.
    """
    import torch

    from harness.backends.transformers.causal import evaluating

    with evaluating(model):
        # What stands before the question is the same at every place of the way.
        start = begins(model, asked, asked.begin)
        before = start.length if start else 0
        begin, end = (way(model, asked)[:, before:] for way in (without, embedded))

        def at(places: Sequence[float]) -> Tensor:
            some = torch.tensor(places, dtype=torch.float32)
            return begin + some.to(begin.device, begin.dtype)[:, None, None] * (end - begin)

        looks = (np.linspace(0, 1, LOOKS + 1) ** 2).tolist() if adapted else [0.0, 1.0]
        with torch.no_grad():
            values = [
                float(value)
                for some in _at_once(looks)
                for value in answer_logprob(model, at(some), asked, start)
            ]
        places, weights = _nodes(steps, _cuts(looks, values, steps) if adapted else [0.0, 1.0])
        total: Tensor = torch.zeros_like(begin[0], dtype=torch.float32)
        for some, by in zip(_at_once(places), _at_once(weights), strict=True):
            inputs = at(some).detach().requires_grad_()
            with torch.enable_grad():
                value = answer_logprob(model, inputs, asked, start).sum()
                [found] = torch.autograd.grad(value, inputs)
            share = torch.tensor(by, dtype=torch.float32, device=found.device)
            total += (found.float() * share[:, None, None]).sum(0)
    whole, empty = values[-1], values[0]
    nats = (total * (end - begin)[0].float()).sum(-1)[asked.begin - before : asked.end - before]
    return Attributed(tuple(float(value) for value in nats), whole, empty)


def _cuts(looks: Sequence[float], values: Sequence[float], steps: int) -> list[float]:
    """Where sections end: half by how much log p moves, half by the square root of the way."""
    moved = np.abs(np.diff(values))
    even = np.diff(np.sqrt(looks))
    share = even if moved.sum() < 1e-9 else (moved / moved.sum() + even) / 2
    so_far = np.concatenate([[0.0], np.cumsum(share)])
    sections = max(1, steps // ORDER)
    found = np.interp(np.linspace(0, 1, sections + 1), so_far / so_far[-1], np.sqrt(looks)) ** 2
    return [float(cut) for cut in found]


def _nodes(steps: int, cuts: Sequence[float]) -> tuple[list[float], list[float]]:
    """Places on the way and their weights: Gauss and Legendre's in each section."""
    nodes, weights = np.polynomial.legendre.leggauss(max(1, steps // (len(cuts) - 1)))
    places: list[float] = []
    by: list[float] = []
    for low, high in pairwise(cuts):
        places.extend((low + (high - low) * (nodes + 1) / 2).tolist())
        by.extend((weights * (high - low) / 2).tolist())
    return places, by


def _at_once(values: Sequence[float]) -> Iterator[Sequence[float]]:
    for first in range(0, len(values), AT_ONCE):
        yield values[first : first + AT_ONCE]
