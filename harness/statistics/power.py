"""What a suite can see: samples that a claim needs, drops that n samples can show."""

from __future__ import annotations

import math

POWER = 0.8
"""The usual word for "can be seen": four times in five."""


def samples_needed(sd: float, distance: float, alpha: float, power: float = POWER) -> int | None:
    """Samples with which a mean `distance` away from its bound is told from it.

    n = ((Φ⁻¹(1−α) + Φ⁻¹(power))·sd/distance)², `sd` that of one sample's z. None where the
    distance is 0 or less: no number of samples would do.
    """
    from scipy.special import ndtri

    if distance <= 0:
        return None
    steps = float(ndtri(1 - alpha) + ndtri(power))
    return max(2, math.ceil((steps * sd / distance) ** 2))


def smallest_distance(sd: float, n: int, alpha: float, power: float = POWER) -> float:
    """The distance from its bound that n samples tell in `power` of cases, in the unit of sd.

    (t_{1−α, n−1} + t_{power, n−1})·sd/√n; infinite with fewer than two samples.
    """
    from scipy.special import stdtrit

    if n < 2:
        return math.inf
    return float((stdtrit(n - 1, 1 - alpha) + stdtrit(n - 1, power)) * sd / math.sqrt(n))
