"""How far answers have moved from an anchor's, without labels.

Nothing here says whether they got better; that is the gate's question.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.intervals import Estimate, range_interval, ratio_interval

if TYPE_CHECKING:
    import numpy.typing as npt

_LARGEST_NATS = 700.0
_FARTHEST = 2.0


def perplexity(nats: npt.ArrayLike, tokens: npt.ArrayLike) -> Estimate:
    """exp(Σ nats / Σ tokens), 1 to infinity: how unlikely texts are to a model; lower is likelier.

    nats    (n,) negative log-likelihood of each text
    tokens  (n,) its tokens, at least 1 each

    The interval is that of a ratio on the scale of the logarithm (`ratio_interval`). Raises
    ValueError without a text or without a token.
    """
    h, w = np.asarray(nats, dtype=float), np.asarray(tokens, dtype=float)
    if h.shape != w.shape or h.ndim != 1 or h.size == 0 or (w < 1).any():
        raise ValueError("as many counts of tokens as texts are needed, each at least 1")
    bounds = ratio_interval(h, w)
    ends = None if bounds is None else (_exp(bounds[0]), _exp(bounds[1]))
    return Estimate.of(_exp(float(h.sum() / w.sum())), ends, int(h.size))


def distance(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Estimate:
    """Mean of 1 − cosine between the embeddings of two answers to one sample, 0 (alike) to 2.

    ours, theirs  (n, width), row i of both answers sample i; no row may be 0

    The interval is that of a mean between 0 and 2 (`range_interval`). Raises ValueError for other
    shapes.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise ValueError("both sides need one embedding per sample")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not lengths.all():
        raise ValueError("an embedding of length 0 has no direction")
    apart = np.clip(1.0 - np.sum(a * b, axis=1) / lengths, 0.0, _FARTHEST)
    return Estimate.of(float(apart.mean()), range_interval(apart, (0.0, _FARTHEST)), len(apart))


def _exp(nats: float) -> float:
    return math.exp(min(nats, _LARGEST_NATS))
