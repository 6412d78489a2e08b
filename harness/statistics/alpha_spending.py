"""Alpha spending: how much of the error rate each planned look may use."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import UserError


def spent(share: float, alpha: float) -> float:
    """Alpha spent once `share` of the planned evidence is in (O'Brien–Fleming-like).

    f(t) = 2 − 2Φ(Φ⁻¹(1 − α/2)/√t) (Lan & DeMets 1983): f(0) = 0, f(1) = α, little early.
    """
    from scipy.special import ndtr, ndtri

    if share <= 0:
        return 0.0
    return float(2 * ndtr(-ndtri(1 - alpha / 2) / min(share, 1.0) ** 0.5))


def look_alphas(alpha: float, shares: Sequence[float]) -> tuple[float, ...]:
    """α_j = f(t_j) − f(t_{j−1}) for planned shares t_1 < … < t_J = 1; they sum to alpha.

    Testing look j at α_j is a union bound over the looks, so it holds under any dependence
    between them: no joint distribution of the looks is assumed.
    """
    totals = [spent(share, alpha) for share in shares]
    return tuple(now - before for now, before in zip(totals, [0.0, *totals[:-1]], strict=True))


def planned_shares(looks: int, schedule: Sequence[float] | None = None) -> tuple[float, ...]:
    """The share of all planned evidence that each look has seen; equal steps without a schedule.

    `schedule` is cumulative in any unit: [1, 2, 4] means a quarter, a half, all.
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
    """What look j of J may spend. Raises UserError where j is not in 1..J."""
    j, looks = look
    if not 1 <= j <= looks:
        raise UserError(
            f"look {j} of {looks} does not exist", field="look", hint="count from 1 to the last"
        )
    return look_alphas(alpha, planned_shares(looks, schedule))[j - 1]


def per_checkpoint_alpha(alpha: float, planned_checkpoints: int) -> float:
    """A training's alpha, split evenly over its planned checkpoints, retries included.

    A union bound: at .05 *per checkpoint* 20 identical checkpoints see a false rollback with
    probability .41 or so; split, the whole training keeps .05.
    """
    if planned_checkpoints < 1:
        raise UserError(
            f"a training of {planned_checkpoints} checkpoints has nothing to decide",
            field="checkpoints",
            hint="plan at least one checkpoint",
        )
    return alpha / planned_checkpoints
