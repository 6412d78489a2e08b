"""Confidence sequences for a bounded mean: valid however often one looks.

Everything here rests on one bet. A gambler who starts with 1 bets against "the mean is at least m".
With values x in [0, 1] and a share f of the money at stake, each value multiplies the money by

    factor(x) = 1 − f·(x − m)/(1 − m) ≥ 1 − f,    at most 1 on average if the claim holds.

So if the claim holds the money doesn't grow on average, and by Ville's inequality the chance that
it ever reaches 1/alpha is at most alpha, however often one looks (Waudby-Smith & Ramdas 2024).
Which share f works best depends on the size of the drop, so several are tried side by side, and the
money is their average.

The claim must be about each value *given those before it*. Answers of one conversation depend on
each other, so they enter as one value, the conversation's mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STAKES: Array = np.asarray(0.5 ** np.arange(1, 15), dtype=np.float64)
"""Shares of the money: from a half, for large drops, to 1/16384, for small ones in much traffic."""

_AT_ONCE = 50_000
_GRID = 200
_LEAST = 1e-9
_EMPTY = (-math.inf,) * len(STAKES)


@dataclass(frozen=True, slots=True)
class Detector:
    """A gambler with an income who bets against "the mean is at least `limit`"; 1 is the good end.

    `wealth` is the logarithm of the money at each stake, -inf for none. Without an income a bet
    that has seen months of good values has lost nearly everything, and would need as long to notice
    a change. (A Shiryaev–Roberts e-detector of Shin, Ramdas & Rinaldo 2023, with weights.)

    While the claim holds, money minus income doesn't grow on average, and an alarm uses up
    `1/alpha`. So, however often one looks, the expected number of false alarms is at most alpha
    times all income.
    """

    limit: float
    wealth: tuple[float, ...] = _EMPTY

    def __post_init__(self) -> None:
        if not 0 < self.limit < 1:
            raise ValueError(f"a limit of {self.limit} leaves nothing to bet on")

    @property
    def log_wealth(self) -> float:
        """The logarithm of all its money."""
        return float(np.logaddexp.reduce(np.asarray(self.wealth)))

    def after(self, values: npt.ArrayLike, income: npt.ArrayLike, alpha: float) -> Fed:
        """Bet on `values` (n,) in [0, 1]; `income` (n,) ≥ 0 arrives just before each of them.

        The income must not depend on the value that follows it. Raises ValueError for values
        outside [0, 1], and where both differ in length.
        """
        x, w = np.asarray(values, dtype=float), np.asarray(income, dtype=float)
        if x.shape != w.shape or x.ndim != 1:
            raise ValueError(f"{x.shape} values have {w.shape} incomes")
        if x.size and not ((x >= 0) & (x <= 1) & (w >= 0)).all():
            raise ValueError("values lie in [0, 1] and incomes are not negative")
        detector, alarms, at = self, [], 0
        while at < len(x):
            part = slice(at, at + _AT_ONCE)
            paths = detector._paths(x[part], w[part])
            over = np.flatnonzero(np.logaddexp.reduce(paths, axis=1) >= -math.log(alpha))
            if over.size:
                at += int(over[0]) + 1
                alarms.append(at - 1)
                detector = replace(detector, wealth=_EMPTY)
            else:
                at += len(paths)
                detector = replace(detector, wealth=tuple(paths[-1].tolist()))
        return Fed(detector, tuple(alarms))

    def _paths(self, x: Array, w: Array) -> Array:
        """Log money per stake after each value, (n, stakes): all of W ← (W + income)·factor."""
        steps = np.log1p(-np.outer((x - self.limit) / (1 - self.limit), STAKES))
        sums = np.cumsum(steps, axis=0)
        with np.errstate(divide="ignore"):
            came = np.log(w / len(STAKES))[:, None] - (sums - steps)
        came[0] = np.logaddexp(came[0], self.wealth)
        return np.asarray(sums + np.logaddexp.accumulate(came, axis=0))


@dataclass(frozen=True, slots=True)
class Fed:
    """A detector after some values, and the positions of those at which it raised an alarm.

    After each alarm it starts again with no money.
    """

    detector: Detector
    alarms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """What an interval needs of values in [0, 1]: how many, their sum, the sum of squares.

    The moments of two sets of values add up to those of both together.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Moments:
        """The moments of `values`, any shape. Raises ValueError for values outside [0, 1]."""
        x = np.asarray(values, dtype=float)
        if x.size and not ((x >= 0) & (x <= 1)).all():
            raise ValueError("values lie in [0, 1]")
        return cls(int(x.size), float(x.sum()), float(np.square(x).sum()))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        return min(max(self.total / self.n, 0.0), 1.0) if self.n else None

    @property
    def mirrored(self) -> Moments:
        """Of 1 − x."""
        return Moments(self.n, self.n - self.total, self.n - 2 * self.total + self.squares)

    @property
    def binary(self) -> bool:
        """Whether every value was 0 or 1."""
        return abs(self.total - self.squares) <= 1e-9 * max(self.n, 1)


def log_e_value(moments: Moments, mean: npt.ArrayLike) -> Array:
    """Log of the evidence against "the mean is at most `mean`"; any shape of means in (0, 1).

    The exact bet would need all values again for each mean that is tried. Two lower bounds of its
    logarithm need the moments alone, and the average of both over all stakes is returned:

    - the logarithm of the factor is concave in x, so it lies above the straight line between its
      values at 0 and 1 (exact where all values are 0 or 1);
    - ln(1 + f·y) ≥ f·y − (−ln(1−f) − f)·y² for y ≥ −1 (Fan, Grama & Liu 2015), which is sharp where
      the variance is small.
    """
    m = np.asarray(mean, dtype=float)[..., None]
    n, s1, s2 = moments.n, moments.total, moments.squares
    chord = s1 * np.log1p(STAKES * (1 - m) / m) + (n - s1) * np.log1p(-STAKES)
    drift, spread = s1 / m - n, (s2 - 2 * m * s1 + n * m**2) / m**2
    quadratic = STAKES * drift - (-np.log1p(-STAKES) - STAKES) * spread
    both = np.concatenate([chord, quadratic], axis=-1)
    return np.asarray(np.logaddexp.reduce(both, axis=-1) - math.log(both.shape[-1]))


def lower_bound(moments: Moments, alpha: float) -> float:
    """A lower bound of the mean, 0 to 1, that holds at all looks together with chance 1 − `alpha`.

    The largest mean up to which each one is refuted at 1/alpha, searched on a grid and then on a
    finer one within its cell, and rounded down. 0 without values, and where their mean is nearly 0.
    """
    top = moments.mean
    if top is None or top < _LEAST:
        return 0.0
    low, high = 0.0, top
    for _ in range(2):
        grid = np.linspace(low, high, _GRID + 1)[1:]
        standing = np.flatnonzero(log_e_value(moments, grid) < -math.log(alpha))
        first = int(standing[0]) if standing.size else _GRID - 1
        low, high = (float(grid[first - 1]) if first else low), float(grid[first])
    return low


def interval(moments: Moments, alpha: float = 0.05) -> tuple[float, float]:
    """The two-sided interval of the mean; the chance that any of all looks misses it is at most
    `alpha` (a confidence sequence).
    """
    return (
        lower_bound(moments, alpha / 2),
        1.0 - lower_bound(moments.mirrored, alpha / 2),
    )


def fixed_lower_bound(moments: Moments, alpha: float) -> float:
    """A lower bound of the mean for a number of values that was fixed before, looked at once.

    Clopper & Pearson's (1934), exact, where all values are 0 or 1; `lower_bound` otherwise.
    """
    if not moments.binary:
        return lower_bound(moments, alpha)
    from scipy.special import betaincinv

    hits = round(moments.total)
    return float(betaincinv(hits, moments.n - hits + 1, alpha)) if hits else 0.0


def incomes(moments_s: npt.ArrayLike, paid_until: float | None) -> tuple[Array, float | None]:
    """One unit of money a day, as values arrive: (n,) incomes, and the hour paid up to.

    moments_s    (n,) seconds since the epoch, in the order of arrival; going back earns nothing
    paid_until   the hour since the epoch up to which income was paid; None if none was yet

    The first value brings the money of 23 hours, each later one that of the hours begun since the
    last payment, at most a day's. So all income is at most 1 + the number of days that passed.
    """
    hours = np.floor(np.asarray(moments_s, dtype=float) / 3600)
    if not hours.size:
        return hours, paid_until
    start = hours[0] - 23 if paid_until is None else paid_until
    reached = np.maximum.accumulate(np.concatenate([[start], hours]))
    return np.minimum(np.diff(reached), 24) / 24, float(reached[-1])


def as_unit_means(values: npt.ArrayLike, units: Sequence[int] | npt.NDArray[np.intp]) -> Array:
    """Mean of `values` per unit, (units,), in the order of their numbers 0..; none may be empty."""
    at = np.asarray(units, dtype=np.intp)
    counts = np.bincount(at)
    if not counts.all():
        raise ValueError("a unit without a value has no mean")
    return np.asarray(np.bincount(at, weights=np.asarray(values, dtype=float)) / counts)
