"""Alpha spending: how much of the error rate each planned look may use."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import UserError


def spent(share: float, alpha: float) -> float:
    """The part of `alpha` that may be spent once `share` (0 to 1) of the planned evidence is in.

    f(t) = 2 − 2Φ(Φ⁻¹(1 − α/2)/√t), the O'Brien–Fleming-like curve of Lan & DeMets (1983): f(0) = 0,
    f(1) = α, and little early, so that the last look is almost as sharp as a single one.
    """
    from scipy.special import ndtr, ndtri

    if share <= 0:
        return 0.0
    return float(2 * ndtr(-ndtri(1 - alpha / 2) / min(share, 1.0) ** 0.5))


def look_alphas(alpha: float, shares: Sequence[float]) -> tuple[float, ...]:
    """α_j = f(t_j) − f(t_{j−1}) for planned shares t_1 < … < t_J = 1; they sum to alpha.

    The chance of a false verdict at any look is at most the sum of the chances at each (a union
    bound), which holds under any dependence between the looks. Sharper boundaries exist, but they
    need the joint distribution of the looks' statistics.
    """
    totals = [spent(share, alpha) for share in shares]
    return tuple(now - before for now, before in zip(totals, [0.0, *totals[:-1]], strict=True))


def planned_shares(looks: int, schedule: Sequence[float] | None = None) -> tuple[float, ...]:
    """The share of all planned evidence that each look has seen; equal steps without a schedule.

    `schedule` is cumulative in any unit: [1, 2, 4] means a quarter, a half, all. Raises UserError
    where it doesn't have `looks` rising positive numbers.
    """
    if schedule is None:
        return tuple((j + 1) / looks for j in range(looks))
    rising = all(x < y for x, y in zip([0.0, *schedule], schedule, strict=False))
    if len(schedule) != looks or not rising:
        raise UserError(
            f"the schedule of looks {list(schedule)} doesn't fit {looks} looks",
            field="looks",
            hint=f"give {looks} rising positive numbers, such as [1, 2, 4] for three looks",
        )
    return tuple(value / schedule[-1] for value in schedule)


def alpha_at(look: tuple[int, int], alpha: float, schedule: Sequence[float] | None = None) -> float:
    """What look j of J (`look`, counted from 1) may spend of `alpha`.

    Raises UserError where j is not in 1..J or the schedule doesn't have J rising numbers.
    """
    j, looks = look
    if not 1 <= j <= looks:
        raise UserError(
            f"look {j} of {looks} does not exist", field="look", hint="count from 1 to the last"
        )
    return look_alphas(alpha, planned_shares(looks, schedule))[j - 1]


def per_checkpoint_alpha(alpha: float, planned_checkpoints: int) -> float:
    """A training's alpha, split evenly over its planned checkpoints, retries included.

    A union bound again: at .05 *per checkpoint* a training of 20 identical checkpoints sees a false
    rollback with probability .4 or so; split, the whole training keeps .05. Raises UserError for
    fewer than one checkpoint.
    """
    if planned_checkpoints < 1:
        raise UserError(
            f"a training of {planned_checkpoints} checkpoints has nothing to decide",
            field="checkpoints",
            hint="plan at least one checkpoint",
        )
    return alpha / planned_checkpoints
