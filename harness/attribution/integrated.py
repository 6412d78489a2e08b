"""Integrated Gradients: how much of a log-probability each token of a question carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
POWER = 2


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
    model: Any, asked: Asked, *, steps: int = STEPS, power: int = POWER
) -> Attributed:
    """By the rule of Gauss and Legendre over the straight way from a question of no words
    (`likelihood.without`) to the question (Sundararajan et al., 2017).

    The rule's places u lie on the way at u^`power`: nearer to its beginning, where norms make the
    most of little. At power 1 it is captum's.
    """
    import numpy as np
    import torch

    from harness.backends.transformers.causal import evaluating

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    nodes = (nodes + 1) / 2
    places, weights = nodes**power, weights / 2 * power * nodes ** (power - 1)
    with evaluating(model):
        # What stands before the question is the same at every place of the way.
        start = begins(model, asked, asked.begin)
        before = start.length if start else 0
        begin, end = (way(model, asked)[:, before:] for way in (without, embedded))
        total: Tensor = torch.zeros_like(begin[0], dtype=torch.float32)
        for first in range(0, steps, AT_ONCE):
            some = torch.tensor(places[first : first + AT_ONCE], dtype=torch.float32)
            share = some.to(begin.device, begin.dtype)[:, None, None]
            inputs = (begin + share * (end - begin)).detach().requires_grad_()
            with torch.enable_grad():
                value = answer_logprob(model, inputs, asked, start).sum()
                [found] = torch.autograd.grad(value, inputs)
            by = torch.tensor(weights[first : first + AT_ONCE], dtype=torch.float32)
            total += (found.float() * by.to(found.device)[:, None, None]).sum(0)
        with torch.no_grad():
            whole, empty = (
                float(answer_logprob(model, one, asked, start)[0]) for one in (end, begin)
            )
    nats = (total * (end - begin)[0].float()).sum(-1)[asked.begin - before : asked.end - before]
    return Attributed(tuple(float(value) for value in nats), whole, empty)
