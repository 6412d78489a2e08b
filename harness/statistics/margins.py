"""Harm and allowance per sample: every kind of metric as one linear question.

For sample i, `harm` d_i is how much worse the candidate is (positive = worse) and `base` s_i is
what a relative margin is a share of. With margin δ and floor ε,

    z_i = d_i − allowance_i,        E[z] > 0: worse than the margin allows.

| form                     | d_i                | allowance_i             | base s_i |
| mean, higher is better   | a_i − c_i          | δ·a_i + ε               | a_i      |
| mean, lower is better    | c_i − a_i          | δ·a_i + ε               | a_i      |
| perplexity               | NLL_c,i − NLL_a,i  | T_i·(ln(1+δ) + ε)       | T_i      |
| win share                | ½ − w_i            | ½·δ + ε                 | ½        |

"The candidate lost more than 5%" is a question about a ratio: mean(c)/mean(a) < 0.95. It is asked
as a difference instead, mean(0.95·a − c) > 0, which says the same and is a mean of one number a
sample, so that a t-test applies. A ratio would have no value for an anchor of 0 and a skewed
distribution near it; the difference is as good there as anywhere.

T_i is the *anchor's* token count, so that a candidate with another tokenizer is compared on the
same text. Summed over the documents, z > 0 says exactly that perplexity grew by more than the
factor (1+δ)·e^ε.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.core.types import Direction

Array = npt.NDArray[np.float64]


def harm(anchor: npt.ArrayLike, candidate: npt.ArrayLike, direction: Direction) -> Array:
    """How much worse each sample got, in the metric's unit: shape (..., n), positive = worse."""
    a, c = np.asarray(anchor, dtype=float), np.asarray(candidate, dtype=float)
    return np.asarray(a - c if direction == "higher" else c - a)


def linear_allowance(base: npt.ArrayLike, margin: float, floor: float) -> Array:
    """δ·s + ε per sample, in the metric's unit; same shape as `base`. δ a share, ε in that unit."""
    return np.asarray(margin * np.asarray(base, dtype=float) + floor)


def log_allowance(tokens: npt.ArrayLike, margin: float, floor: float) -> Array:
    """T·(ln(1+δ) + ε) per document, in nats; same shape as `tokens`."""
    # A perplexity that grows by the factor 1+δ is a mean NLL that grows by ln(1+δ) nats a token.
    return np.asarray(np.asarray(tokens, dtype=float) * (math.log1p(margin) + floor))


def z_values(
    anchor: npt.ArrayLike,
    candidate: npt.ArrayLike,
    direction: Direction = "higher",
    *,
    margin: float = 0.05,
    floor: float = 0.0,
) -> Array:
    """The z of a metric that is a mean, (..., n): (1−δ)·a − c − ε where higher is better, else
    c − (1+δ)·a − ε. Above 0 is worse than the margin allows.
    """
    return np.asarray(
        harm(anchor, candidate, direction) - linear_allowance(anchor, margin, floor), dtype=float
    )
