"""Two given texts of one sample: which of them a model prefers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence

Numbers = Sequence[float]


def prefers_first(first: Numbers, second: Numbers, *, normalize: bool = False) -> float:
    """1.0 where the first numbers have the larger sum (mean with `normalize`), 0.5 for a tie, else
    0.0.
    """
    left, right = math.fsum(first), math.fsum(second)
    if normalize:
        left, right = left / len(first), right / len(second)
    return 0.5 if left == right else float(left > right)


def pair_of(
    sample: Sample, responses: Sequence[Response], names: str
) -> tuple[Numbers, Numbers] | Evidence:
    """The log-probabilities of a sample's two references, or an `Evidence` that there aren't two.

    `names` says in words what the two references are.
    """
    if len(sample.references) != 2 or len(responses) != 2:
        return Evidence.unscored(None, f"a pair needs two references: {names}")
    first, second = responses
    return first.logprobs or (), second.logprobs or ()
