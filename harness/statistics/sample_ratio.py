"""Whether traffic was split in the planned ratio; valid at any time.

The evidence against "each unit goes to arm i with chance theta_i" is a likelihood ratio: a
Dirichlet mixture of multinomials over the planned multinomial (Lindon & Malek 2022, "Anytime-Valid
Inference For Multinomial Count Data"). If the plan was kept it is a martingale that starts at 1, so
the chance that it ever reaches 1/alpha is at most alpha, however often one looks. A chi-square test
that is repeated every hour has no such guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONCENTRATION = 100.0
"""How closely the mixture's prior lies around the planned shares: a larger value finds small
mismatches sooner where there is much traffic, and gross ones later where there is little."""


def log_mismatch(
    counts: Sequence[int], shares: Sequence[float], *, concentration: float = CONCENTRATION
) -> float:
    """Natural logarithm of the evidence that `counts` (k,) were not split by `shares` (k,).

    Above −ln(alpha) the split is shown to be wrong at that alpha. The shares are positive and add
    up to 1, the counts aren't negative; raises ValueError otherwise. The order in which the units
    came doesn't matter.
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
