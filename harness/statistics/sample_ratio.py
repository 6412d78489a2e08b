"""Whether traffic was split in the planned ratio; valid at any time.

The evidence against "each unit goes to arm i with chance theta_i" is a Dirichlet mixture of
multinomials over the multinomial that was meant (Lindon & Malek 2022, "Anytime-Valid Inference For
Multinomial Count Data"): a martingale that starts at 1, so that it ever reaches 1/alpha with chance
alpha at most, however often one looks. A chi-square test looked at every hour has no such promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONCENTRATION = 100.0
"""Of the mixture's prior around the shares that were meant: the larger, the surer it is of small
mismatches in much traffic, and the later of gross ones in little."""


def log_mismatch(
    counts: Sequence[int], shares: Sequence[float], *, concentration: float = CONCENTRATION
) -> float:
    """Logarithm of the evidence that `counts` (k,) were not split by `shares` (k,).

    The shares are positive and add up to 1. The order in which the units came does not matter.
    Raises ValueError otherwise.
    """
    if len(counts) != len(shares) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"{list(shares)} are not shares of {len(counts)} arms")
    if min(counts) < 0 or concentration <= 0:
        raise ValueError("counts are not negative, and the concentration is positive")
    prior = [concentration * share for share in shares]
    drawn = math.lgamma(concentration) - math.lgamma(concentration + sum(counts))
    for count, share, mass in zip(counts, shares, prior, strict=True):
        drawn += math.lgamma(mass + count) - math.lgamma(mass) - count * math.log(share)
    return drawn
