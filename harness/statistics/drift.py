"""How far answers have moved from an anchor's, without labels.

Nothing here says whether they got better; that is the gate's question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LEVEL = 0.95
_LARGEST_NATS = 700.0


@dataclass(frozen=True, slots=True)
class DriftValue:
    """A value with its 95% interval over `samples`; the ends are None for a single one."""

    value: float
    low: float | None
    high: float | None
    samples: int


def perplexity(nats: npt.ArrayLike, tokens: npt.ArrayLike) -> DriftValue:
    """exp(Σ nats / Σ tokens), 1 to infinity: how surprised a model is by texts, lower is less.

    nats    (n,) negative log-likelihood of each text
    tokens  (n,) its tokens, at least 1 each

    The interval is that of a ratio (Cochran 1977, 6.3) on the scale of the logarithm, by Student's
    t on n − 1 degrees of freedom. Raises ValueError without a text or without a token.
    """
    h, w = np.asarray(nats, dtype=float), np.asarray(tokens, dtype=float)
    if h.shape != w.shape or h.ndim != 1 or h.size == 0 or (w < 1).any():
        raise ValueError("as many counts of tokens as texts are needed, each at least 1")
    mean = float(h.sum() / w.sum())
    half = None
    if h.size > 1:
        spread = float(np.sum((h - mean * w) ** 2)) * h.size / (h.size - 1)
        half = _critical(h.size - 1) * math.sqrt(spread) / float(w.sum())
    value, low, high = (
        None if nat is None else math.exp(min(nat, _LARGEST_NATS))
        for nat in (mean, *_ends(mean, half))
    )
    assert value is not None
    return DriftValue(value, low, high, int(h.size))


def distance(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> DriftValue:
    """Mean of 1 − cosine between the embeddings of two answers to one sample, 0 (alike) to 2.

    ours, theirs  (n, width), row i of both answers sample i; no row may be 0

    The interval is Student's over samples, cut to 0..2. Raises ValueError for other shapes.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise ValueError("both sides need one embedding per sample")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not lengths.all():
        raise ValueError("an embedding of length 0 has no direction")
    apart = np.clip(1.0 - np.sum(a * b, axis=1) / lengths, 0.0, 2.0)
    mean = float(apart.mean())
    half = None
    if len(apart) > 1:
        half = _critical(len(apart) - 1) * float(apart.std(ddof=1)) / math.sqrt(len(apart))
    low, high = (None if end is None else min(max(end, 0.0), 2.0) for end in _ends(mean, half))
    return DriftValue(mean, low, high, len(apart))


def _ends(value: float, half: float | None) -> tuple[float | None, float | None]:
    return (None, None) if half is None else (value - half, value + half)


def _critical(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, df))
