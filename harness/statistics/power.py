"""Power: samples that a claim needs, and drops that n samples can show."""

from __future__ import annotations

import math

POWER = 0.8
"""A difference counts as visible where it is found in four cases of five, as is usual."""


def samples_needed(sd: float, distance: float, alpha: float, power: float = POWER) -> int | None:
    """Samples with which a one-sided test finds a mean that is `distance` away from its bound.

    n = ((Φ⁻¹(1−α) + Φ⁻¹(power))·sd/distance)², with `sd` the standard deviation of one sample's z
    (same unit as `distance`), and 2 at least. None where the distance is 0 or less: no number of
    samples would do.
    """
    from scipy.special import ndtri

    if distance <= 0:
        return None
    steps = float(ndtri(1 - alpha) + ndtri(power))
    return max(2, math.ceil((steps * sd / distance) ** 2))


def guarded_needed(sd: float, room: float, worst: float, alpha: float) -> int | None:
    """Samples with which a metric passes where few samples change (`rare_events.p_unseen_harm`).

    Both of that function's p-values must be small enough: t with one more sample at the worst z
    (`worst`; the worst harm is `worst` + `room`), and (1 − room/(worst + room))^n, which has 19/20
    of alpha. `sd` is one sample's, `room` the mean allowance, all in the metric's unit. None
    without room, or where no number of samples is enough.
    """
    from scipy.special import ndtri

    if room <= 0:
        return None
    share = min(room / max(worst + room, room), 1 - 1e-9)
    if share == 0:
        return None
    n = max(2, math.ceil(math.log(0.95 * alpha) / math.log1p(-share)))
    # n·room − worst ≥ q·√(n·sd² + worst²), solved for n, with room as the unit: its square is no
    # float where room is very small.
    q = float(ndtri(1 - alpha))
    noise, worst = q * sd / room, worst / room
    b, c = 2 * worst + noise * noise, worst * worst * (1 - q * q)
    by_t = (b + math.sqrt(max(b * b - 4 * c, 0.0))) / 2
    return max(n, math.ceil(by_t) + 1) if math.isfinite(by_t) else None


def smallest_distance(sd: float, n: int, alpha: float, power: float = POWER) -> float:
    """The distance from its bound that n samples show in `power` of cases, in the unit of sd.

    (t_{1−α, n−1} + t_{power, n−1})·sd/√n; infinite with fewer than two samples.
    """
    from scipy.special import stdtrit

    if n < 2:
        return math.inf
    return float((stdtrit(n - 1, 1 - alpha) + stdtrit(n - 1, power)) * sd / math.sqrt(n))


def visible_drop(
    sd: float,
    n: int,
    level: float,
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    tests: int = 1,
    power: float = POWER,
    strict: bool = False,
) -> float:
    """The smallest drop, as a share of `level`, that fails in `power` of cases at the last look.

    `sd` is one sample's standard deviation of the harm, `tests` the number of gated checks (Holm's
    first step: alpha/tests). The default rule needs two things, a proven drop and a best estimate
    beyond the margin; the strict rule needs a drop proven to be beyond the margin. Infinite with
    fewer than two samples or a level of 0.
    """
    from scipy.special import stdtrit

    if n < 2 or level <= 0:
        return math.inf
    se = sd / math.sqrt(n)
    proven = smallest_distance(sd, n, alpha / max(tests, 1), power)
    if strict:
        return margin + proven / level
    beyond = margin * level + float(stdtrit(n - 1, power)) * se
    return max(proven, beyond) / level


def assumed_sd(responses: int = 1, anchor_responses: int = 16, level: float = 0.7) -> float:
    """The harm's standard deviation of a right-or-wrong metric before anything was scored.

    Assumes that samples differ in difficulty as Beta(2·level, 2·(1 − level)) does, so that a
    response varies within its sample by 2/3·level·(1 − level). Calibration replaces it.
    """
    within = level * (1 - level) * 2 / 3
    return math.sqrt(within * (1 / max(responses, 1) + 1 / max(anchor_responses, 1)))
