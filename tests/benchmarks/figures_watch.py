"""How often watching is wrong, and how late it is: the figures of docs/watch.md.

    python -m tests.benchmarks.figures_watch            all tables, some ten minutes on one core
    python -m tests.benchmarks.figures_watch null       one of null, pass, late, point

Worlds in which the truth is known, judged by the functions that judge production: conversations
that end well with a known chance, a reference drawn from the same model, a drop at a random moment
of the eleventh day. The peer is the test that most people would write: a binomial test of
each day's (or hour's) conversations, at the very share of alpha that the promise leaves for it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.statistics.sequential import Detector, Moments, fixed_lower_bound, incomes, interval
from harness.watch.monitor.reference import of_moments

Array = npt.NDArray[np.float64]
Watcher = Callable[[Array, Array, float, float], "float | None"]
"""Values, days of arrival, limit, alpha a day -> the day of its first alarm, or None."""

WELL = 0.8
DAYS = 30
HEALTHY = 10
SIGNALS = 9
ALPHA = 0.001 / SIGNALS
REFERENCE_ALPHA = 0.01 / SIGNALS


@dataclass(frozen=True, slots=True)
class World:
    """`a_day` conversations, of which 80% end well until the drop (a share of that)."""

    a_day: int = 500
    reference: int = 1000
    drop: float = 0.0
    margin: float = 0.05
    days: int = DAYS


def month(rng: np.random.Generator, world: World) -> tuple[Array, Array, float]:
    """Values (n,), the day of each (n,), and the day on which the drop began."""
    days = np.sort(rng.random(world.a_day * world.days) * world.days)
    begins = HEALTHY + rng.random()
    chance = np.where(days < begins, WELL, WELL * (1 - world.drop))
    return (rng.random(days.size) < chance).astype(float), days, begins


def limit_of(rng: np.random.Generator, world: World) -> float:
    """What a reference of the same model's conversations leaves as the limit."""
    seen = Moments.of((rng.random(world.reference) < WELL).astype(float))
    return (1 - world.margin) * fixed_lower_bound(seen, REFERENCE_ALPHA)


def watching(x: Array, days: Array, limit: float, alpha: float) -> float | None:
    """Ours: looked at after every conversation."""
    pay, _ = incomes(days * 86_400, None)
    alarms = Detector(limit).after(x, pay, alpha).alarms
    return float(days[alarms[0]]) if alarms else None


def fixed(windows_a_day: int) -> Watcher:
    """A binomial test at the end of each window, of that window alone; alpha split over a day's."""

    def watch(x: Array, days: Array, limit: float, alpha: float) -> float | None:
        from scipy.stats import binom

        number = np.floor(days * windows_a_day).astype(int)
        n = np.bincount(number)
        well = np.bincount(number, weights=x)
        rang = np.flatnonzero(binom.cdf(well, n, limit) <= alpha / windows_a_day)
        return float((rang[0] + 1) / windows_a_day) if rang.size else None

    return watch


def peeked(x: Array, days: Array, limit: float, alpha: float) -> float | None:
    """The mistake: the day's test, done again after every conversation of the day."""
    from scipy.stats import norm

    start = np.searchsorted(days, np.floor(days))
    sums = np.concatenate([[0.0], np.cumsum(x)])
    n = np.arange(1, x.size + 1) - start
    mean = (sums[1:] - sums[start]) / n
    z = (mean - limit) / np.sqrt(limit * (1 - limit) / n)
    rang = np.flatnonzero((z < norm.ppf(alpha)) & (n >= 30))
    return float(days[rang[0]]) if rang.size else None


WATCHERS: dict[str, Watcher] = {
    "ours": watching,
    "a test a day": fixed(1),
    "a test an hour": fixed(24),
}


def delays(
    world: World, watcher: Watcher, months: int, seed: int
) -> tuple[float, float, float | None]:
    """Shares of months with an alarm before the drop and after it, and the median delay in hours.

    The median is over all months that weren't stopped before; None where more than half of them
    ended without an alarm.
    """
    rng = np.random.default_rng(seed)
    early, found = 0, []
    for _ in range(months):
        limit = limit_of(rng, world)
        x, days, begins = month(rng, world)
        at = watcher(x, days, limit, ALPHA)
        if at is not None and at < begins:
            early += 1
        else:
            found.append(math.inf if at is None else 24 * (at - begins))
    median = float(np.median(found)) if found else math.inf
    caught = float(np.mean(np.isfinite(found))) if found else 0.0
    return early / months, caught, median if math.isfinite(median) else None


def false_alarms(world: World, watcher: Watcher, months: int, seed: int, alpha: float) -> float:
    """Alarms a month where the truth is exactly the limit: the worst that is not a failure."""
    rng = np.random.default_rng(seed)
    total = 0
    for _ in range(months):
        days = np.sort(rng.random(world.a_day * world.days) * world.days)
        x = (rng.random(days.size) < WELL).astype(float)
        while (at := watcher(x, days, WELL, alpha)) is not None:
            total += 1
            left = days > at
            x, days = x[left], days[left] - at
            if days.size < 2:
                break
    return total / months


def point_value(months: int, seed: int, *, by_bound: bool, alpha: float = 0.05) -> float:
    """Share of identical models that are failed within a month, held to 200 answers of an anchor.

    One signal, 60% well, 5% margin, 5,000 conversations a day; `by_bound` holds to the anchor's
    lower bound.
    """
    rng = np.random.default_rng(seed)
    failed = 0
    for _ in range(months):
        seen = Moments.of((rng.random(200) < 0.6).astype(float))
        held = fixed_lower_bound(seen, 0.01) if by_bound else seen.total / seen.n
        days = np.sort(rng.random(5000 * DAYS) * DAYS)
        x = (rng.random(days.size) < 0.6).astype(float)
        failed += watching(x, days, 0.95 * held, alpha / DAYS) is not None
    return failed / months


def passes(reference: int, window: int, drop: float, draws: int, seed: int) -> float:
    """Share of draws in which a completion rate passes with so much in reference and window."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(draws):
        seen, now = (
            Moments(n, well, well)
            for n, p in ((reference, WELL), (window, WELL * (1 - drop)))
            for well in [int(rng.binomial(n, p))]
        )
        limits = of_moments(
            seen, "higher", margin=0.05, floor=0.0, alpha=0.01, source="", digest=None
        )
        assert limits.pass_limit is not None
        found += interval(now)[0] >= limits.pass_limit
    return found / draws


def _null(scale: int) -> Iterator[str]:
    yield "| watcher | alarms a month at the very limit, alpha 0.01 a day | promised |"
    yield "| --- | --- | --- |"
    for name, watcher in {**WATCHERS, "the day's test, peeked at": peeked}.items():
        rate = false_alarms(World(a_day=500), watcher, 200 * scale, 1, 0.01)
        promised = f"{0.01 * (DAYS + 1):.2f}" if name == "ours" else f"{0.01 * DAYS:.2f}"
        yield f"| {name} | {rate:.3f} | {promised} |"
    world = World(a_day=500)
    for name, watcher in WATCHERS.items():
        early, caught, _ = delays(world, watcher, 100 * scale, 2)
        yield f"identical model, default policy, {name}: {early + caught:.3f} of months alarmed"


def _late(scale: int) -> Iterator[str]:
    yield "| a day | reference | drop | ours | a test a day | a test an hour |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for a_day, reference in ((500, 1000), (500, 10_000), (5000, 1000), (5000, 10_000)):
        for drop in (0.05, 0.10, 0.20):
            world = World(a_day, reference, drop)
            months = (40 if a_day == 500 else 12) * scale
            cells = [_cell(*delays(world, w, months, 3)) for w in WATCHERS.values()]
            yield f"| {a_day:,} | {reference:,} | −{drop:.0%} | {' | '.join(cells)} |"


def _cell(early: float, caught: float, median: float | None) -> str:
    late = "" if median is None else f"{median:.1f} h, "
    return f"{late}{caught:.0%}" + (f" ({early:.0%} early)" if early else "")


def _point(scale: int) -> Iterator[str]:
    for by_bound, months in ((False, 20 * scale), (True, 10 * scale)):
        share = point_value(months, 4, by_bound=by_bound)
        name = "lower bound" if by_bound else "point value"
        yield f"identical models failed within a month, held to the anchor's {name}: {share:.3f}"


def _pass(scale: int) -> Iterator[str]:
    yield "| reference | in the window | identical passes | −5% passes | −10% passes |"
    yield "| --- | --- | --- | --- | --- |"
    for reference in (1000, 10_000):
        for window in (1000, 10_000, 100_000):
            cells = [f"{passes(reference, window, d, 100 * scale, 5):.3f}" for d in (0, 0.05, 0.1)]
            yield f"| {reference:,} | {window:,} | {' | '.join(cells)} |"


TABLES = {"null": _null, "pass": _pass, "late": _late, "point": _point}


def main(names: list[str], scale: int = 3) -> None:
    for name in names or list(TABLES):
        for text in TABLES[name](scale):
            print(text, flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
