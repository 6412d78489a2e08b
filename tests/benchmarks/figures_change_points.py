"""How often change points are invented, and how often found: the figures of docs/dashboard.md.

    python -m tests.benchmarks.figures_change_points

Histories of independent normal noise, with and without one shift in the middle; some minutes on
one core.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dashboard.queries.change_points import change_points

HISTORIES = 2_000
LENGTHS = (12, 30)
SHIFTS = (1.5, 2.0, 2.5, 3.0)
"""In standard deviations of the noise."""

NEAR = 2
"""Runs by which a shift may be missed and still be called found."""


def invented(length: int, rng: np.random.Generator) -> float:
    """Share of histories without any shift that were cut all the same."""
    return _share(bool(change_points(rng.normal(size=length))) for _ in range(HISTORIES))


def found(length: int, shift: float, rng: np.random.Generator) -> float:
    """Share of histories with a shift in the middle that were cut there."""
    middle = length // 2
    level = np.where(np.arange(length) < middle, 0.0, shift)
    cuts = (change_points(level + rng.normal(size=length)) for _ in range(HISTORIES))
    return _share(any(abs(at - middle) <= NEAR for at in cut) for cut in cuts)


def _share(hits: Iterable[bool]) -> float:
    return float(np.mean(list(hits)))


def main() -> None:
    """Print a table; from one seed, so that it is always the same."""
    rng = np.random.default_rng(20261122)
    print("runs", "invented", *(f"found, {shift:g} sigma" for shift in SHIFTS), sep="\t")
    for length in LENGTHS:
        rates = [invented(length, rng), *(found(length, shift, rng) for shift in SHIFTS)]
        print(length, *(f"{rate:.1%}" for rate in rates), sep="\t")


if __name__ == "__main__":
    main()
