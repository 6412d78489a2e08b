"""How much traffic a canary needs: the table of docs/canary.md.

    python -m tests.benchmarks.figures_canary            some minutes on one core

Both arms answer equally well. Each size of the candidate's arm is drawn many times and judged by
the function that judges production.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.statistics.sequential import Moments
from harness.watch.monitor.policy import DEFAULT_WATCH_POLICY
from harness.watch.rollout.canary import Arm, compare

SHARES = (0.01, 0.5)
STEPS = 3
DRAWS = 100
ENOUGH = 0.8
"""Share of the draws that pass at what is called enough."""


@dataclass(frozen=True, slots=True)
class Case:
    """A signal with its default margin and floor, and its true mean in both arms."""

    what: str
    signal: str
    mean: float


CASES = (
    Case("completion of 90%, margin 5%", "completion", 0.9),
    Case("errors that never happen, floor 0.005", "errors", 0.0),
    Case("errors of 1%, margin 5% and floor 0.005", "errors", 0.01),
)


def passes(case: Case, share: float, size: int) -> float:
    """Share of draws that pass with `size` conversations in the candidate's arm."""
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(DRAWS):
        candidate = _arm(case, "candidate", share, size, rng)
        promoted = _arm(case, "blessed", 1 - share, round(size * (1 - share) / share), rng)
        (verdict,) = compare(promoted, candidate, DEFAULT_WATCH_POLICY, steps=STEPS)
        found += verdict.outcome == "pass"
    return found / DRAWS


def needed(case: Case, share: float) -> int:
    """The smallest arm that passes often enough, to two digits."""
    size = 100
    while passes(case, share, size) < ENOUGH:
        size *= 2
    low, high = size // 2, size
    while high - low > high / 50:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(case, share, middle) >= ENOUGH else (middle, high)
    return int(float(f"{high:.1e}"))


def _arm(case: Case, name: str, share: float, size: int, rng: np.random.Generator) -> Arm:
    hits = int(rng.binomial(size, case.mean))
    return Arm(name, name, share, size, size, {case.signal: Moments(size, hits, hits)})


def main() -> None:
    """Print the table; from one seed, so that it is always the same."""
    print("| signal |", " | ".join(f"at a share of {share:.0%}" for share in SHARES), "|")
    print("| --- " * (len(SHARES) + 1) + "|")
    for case in CASES:
        cells = [f"{needed(case, share):,}" for share in SHARES]
        print("|", " | ".join((case.what, *cells)), "|", flush=True)


if __name__ == "__main__":
    main()
