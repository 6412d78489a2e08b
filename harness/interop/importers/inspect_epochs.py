"""How Inspect makes one value of a sample's epochs."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.interop.importers.common import Point
from harness.interop.importers.inspect_files import Log


@dataclass(frozen=True, slots=True)
class Epochs:
    """How Inspect made one value of a sample's several: `reducer`, None where there is one epoch.

    Values of a reducer other than the mean are taken as Inspect reduced them: one a sample.
    """

    several: bool
    reducer: str | None


def epochs_of(
    evaluation: Log, samples: Mapping[tuple[str, int], Log]
) -> tuple[Epochs, tuple[str, ...]]:
    several = any(epoch > 1 for _, epoch in samples)
    config = evaluation.get("config")
    named = config.get("epochs_reducer") if isinstance(config, Mapping) else None
    reducers = [named] if isinstance(named, str) else [str(one) for one in named or ["mean"]]
    if not several:
        return Epochs(False, None), ()
    known = [one for one in reducers if one == "mean" or _reducer(one) is not None]
    taken = "mean" if "mean" in known or not known else known[0]
    others = [one for one in reducers if one != taken]
    note = f"Inspect reduced epochs by {', '.join(others)} too: here by {taken} alone"
    return Epochs(True, taken), (note,) if others else ()


def _reducer(name: str) -> Callable[[Sequence[float]], float] | None:
    """Inspect's reducer of that name, from a sample's values by epoch; None for an unknown one."""
    plain: dict[str, Callable[[Sequence[float]], float]] = {
        "max": max,
        "median": statistics.median,
        # Inspect's mode is the first of the commonest.
        "mode": lambda values: Counter(values).most_common(1)[0][0],
    }
    if name in plain:
        return plain[name]
    found = re.fullmatch(r"(at_least|pass_at|pass_k)_(\d+)", name)
    if found is None or not 1 <= (k := int(found.group(2))) <= 10_000:
        return None
    if found.group(1) == "at_least":
        return lambda values: float(sum(value >= 1 for value in values) >= k)
    every = found.group(1) == "pass_k"

    def drawn(values: Sequence[float]) -> float:
        """Of k answers drawn without replacement: that one is right, or that every one is."""
        total, right = len(values), sum(value >= 1 for value in values)
        if every:
            return math.comb(right, k) / math.comb(total, k) if k <= total else 0.0
        wrong = total - right
        return 1.0 if wrong < k else 1.0 - math.comb(wrong, k) / math.comb(total, k)

    return drawn


def reduced(points: Sequence[Point], epochs: Epochs) -> list[Point]:
    """One point a sample, as Inspect reduced its epochs; those without a value left out of it."""
    reduce = _reducer(epochs.reducer or "mean")
    assert reduce is not None
    by_sample: dict[str, list[Point]] = {}
    for point in points:
        by_sample.setdefault(point.sample_id, []).append(point)
    found = []
    for sample_id, own in by_sample.items():
        values = [point.value for point in own if point.value is not None]
        if values:
            found.append(Point(sample_id, reduce(values)))
        else:
            found.append(replace(own[0], index=None))
    return found
