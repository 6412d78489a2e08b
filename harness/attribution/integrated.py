"""Integrated Gradients: how much of a log-probability each token of a question carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
"""Gradients that are taken."""
MORE = 4
"""How many times as many are, where the sum is still off by more than `WITHIN`."""
WITHIN = 0.01
ORDER = 4
"""Gradients to each section of the way."""


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

    The way is not even: where norms make the most of little, log p moves much. How much it moves
    between two places is known without a gradient, and so is what the gradients there missed of it:
    `adapted` begins with half of the `steps` and halves the section that missed most, until all of
    them together miss less than `WITHIN` of the whole, or the steps are used up. Then it goes on
    only while the sum itself is off by more, up to `MORE` times the steps. Not adapted, the rule is
    one over the whole way, as captum's.
    """
    from harness.backends.transformers.causal import evaluating

    with evaluating(model):
        way = _Way(model, asked)
        if not adapted:
            [whole] = way.sections([0.0, 1.0], steps)
            return _together([whole])
        parts = max(1, steps // (2 * ORDER))
        found = way.sections((np.linspace(0, 1, parts + 1) ** 2).tolist(), ORDER)
        enough = WITHIN * max(abs(found[-1].ends[1] - found[0].ends[0]), _SEEN)
        used = ORDER * len(found)
        while sum(abs(section.missed) for section in found) > enough:
            if used >= steps and abs(sum(section.missed for section in found)) <= enough:
                break
            if used >= MORE * steps:
                break
            at = max(range(len(found)), key=lambda place: abs(found[place].missed))
            found[at : at + 1] = way.halves(found[at])
            used += 2 * ORDER
    return _together(found)


_SEEN = 0.1
"""Nats of which `WITHIN` is asked where log p hardly moves: rounding would be divided otherwise."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A part of the way, log p at its two ends, and the nats that each token carries over it."""

    low: float
    high: float
    ends: tuple[float, float]
    nats: tuple[float, ...]

    @property
    def missed(self) -> float:
        return sum(self.nats) - (self.ends[1] - self.ends[0])


class _Way:
    """The straight way from a question of no words, at 0, to the question, at 1."""

    def __init__(self, model: Any, asked: Asked) -> None:
        self._model, self._asked = model, asked
        # What stands before the question is the same at every place of the way.
        self._start = begins(model, asked, asked.begin)
        self._before = self._start.length if self._start else 0
        self._begin, end = (words(model, asked)[:, self._before :] for words in (without, embedded))
        self._whole = end - self._begin

    def sections(self, cuts: Sequence[float], order: int) -> list[_Section]:
        return self._between(cuts, self._values(cuts), order)

    def halves(self, section: _Section) -> list[_Section]:
        # Halved by the root, since most of it happens where there is little of the question yet.
        middle = ((section.low**0.5 + section.high**0.5) / 2) ** 2
        low, high = section.ends
        cuts = [section.low, middle, section.high]
        return self._between(cuts, [low, *self._values([middle]), high], ORDER)

    def _between(
        self, cuts: Sequence[float], values: Sequence[float], order: int
    ) -> list[_Section]:
        nodes, weights = np.polynomial.legendre.leggauss(order)
        ways = list(pairwise(cuts))
        places = [low + (high - low) * (node + 1) / 2 for low, high in ways for node in nodes]
        shares = [(high - low) * weight / 2 for low, high in ways for weight in weights]
        nats = (self._nats(places) * np.array(shares)[:, None]).reshape(len(ways), order, -1)
        return [
            _Section(low, high, ends, tuple(carried.tolist()))
            for (low, high), ends, carried in zip(
                ways, pairwise(values), nats.sum(axis=1), strict=True
            )
        ]

    def _at(self, places: Sequence[float]) -> Tensor:
        import torch

        some = torch.tensor(places, dtype=torch.float32)
        some = some.to(self._begin.device, self._begin.dtype)
        return self._begin + some[:, None, None] * self._whole

    def _values(self, places: Sequence[float]) -> list[float]:
        import torch

        with torch.no_grad():
            return [
                float(value)
                for some in _at_once(places)
                for value in answer_logprob(self._model, self._at(some), self._asked, self._start)
            ]

    def _nats(self, places: Sequence[float]) -> NDArray[np.float64]:
        """What each token would carry were the whole way as it is there: places x tokens."""
        import torch

        asked, found = self._asked, []
        for some in _at_once(places):
            inputs = self._at(some).detach().requires_grad_()
            with torch.enable_grad():
                value = answer_logprob(self._model, inputs, asked, self._start).sum()
                [gradient] = torch.autograd.grad(value, inputs)
            found.append((gradient.float() * self._whole[0].float()).sum(-1).double().cpu().numpy())
        return np.concatenate(found)[:, asked.begin - self._before : asked.end - self._before]


def _together(sections: Sequence[_Section]) -> Attributed:
    nats = np.sum([section.nats for section in sections], axis=0)
    return Attributed(tuple(nats.tolist()), sections[-1].ends[1], sections[0].ends[0])


def _at_once(values: Sequence[float]) -> Iterator[Sequence[float]]:
    for first in range(0, len(values), AT_ONCE):
        yield values[first : first + AT_ONCE]
