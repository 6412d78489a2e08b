"""How fast a verdict is, and what looking in stages saves.

`python tests/benchmarks/bench_gate.py` prints the figures that docs/gate.md cites.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from harness.gate.decision import decide
from harness.gate.metric_scores import MetricScores
from harness.statistics.simulate import World, checkpoints, sequential, trainings


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for docs/benchmarks.md; `quick` makes fewer repeats and trials."""
    return [_verdict(3 if quick else 9), *_sequential(200 if quick else 2000)]


def _verdict(repeats: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    ours, theirs = (
        {
            f"task/metric_{m}": MetricScores(
                {f"s{i}": float(v) for i, v in enumerate(rng.random(4000))}, worst=0.0
            )
            for m in range(10)
        }
        for _ in range(2)
    )
    mine, peer = _interleaved(lambda: decide(ours, theirs), lambda: _by_hand(ours, theirs), repeats)
    return {
        "what": "a verdict over 10 metrics × 4,000 samples",
        "ours": f"{mine * 1e3:.0f} ms",
        "peer": f"{peer * 1e3:.0f} ms, scipy.stats.bootstrap (BCa, 200 resamples) on the same",
        "ratio": mine / peer,
        "goal": "under 200 ms",
        "note": "three tests, intervals, Holm, the ten samples that moved most, wording",
    }


def _by_hand(ours: Mapping[str, MetricScores], theirs: Mapping[str, MetricScores]) -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    for name, run_a in ours.items():
        ids = sorted(run_a.values)
        a = np.array([run_a.values[i] for i in ids])
        c = np.array([theirs[name].values[i] for i in ids])
        bootstrap((0.95 * a - c,), np.mean, n_resamples=200, rng=rng, batch=50)


def _interleaved(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int
) -> tuple[float, float]:
    ours(), peer()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for kept, work in zip(seconds, (ours, peer), strict=True):
            started = time.perf_counter()
            work()
            kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _sequential(trials: int) -> list[dict[str, object]]:
    """Looks at 4, 8 and 16 responses per sample, against the fixed 16 at the same alpha."""
    rows = []
    for name, drop in (("nothing changed", 0.0), ("−10%", 0.10)):
        world = World(n=150, k=16, anchor_k=64, drop=drop)
        looked = sequential(world, (4, 8, 16), trials, seed=1)
        fixed = checkpoints(world, trials, seed=2).rates
        mean = float(looked.responses.mean())
        wanted = "pass" if drop == 0 else "fail"
        rows.append(
            {
                "what": f"responses per sample until the verdict, {name}",
                "ours": f"{mean:.1f} ({wanted} {looked.outcomes.rates[wanted]:.2f})",
                "peer": f"16 ({wanted} {fixed[wanted]:.2f}), the fixed design of equal alpha",
                "ratio": mean / 16,
                "goal": "under 1",
                "note": f"150 samples, anchor with 64 responses, {trials} trials",
            }
        )
    return rows


def figures(trials: int = 4000) -> None:
    """The tables of docs/gate.md, in its order."""
    print("identical checkpoint, ten metrics: chance of FAIL, of PASS")
    for n, k in ((60, 1), (60, 4), (150, 4), (150, 16), (500, 4), (1000, 4)):
        rates = checkpoints(World(n=n, k=k, anchor_k=16, metrics=10), trials // 2, 1).rates
        one = checkpoints(World(n=n, k=k, anchor_k=64), trials, 1).rates
        print(f"  n={n:5} K={k:3}  ten {rates['fail']:.3f}  one PASS {one['pass']:.2f}")
    print("trainings of identical checkpoints: chance of any FAIL")
    for count in (20, 100):
        rates = trainings(World(n=60, k=1), count, trials // 2, 3).rates
        print(f"  {count:3} checkpoints {rates['fail']:.3f}")
    print("exactly −5%: PASS, strict FAIL, FAIL by either arm")
    for n, k, level in ((60, 1, 0.7), (60, 4, 0.95), (150, 4, 0.7), (150, 4, 0.95), (500, 4, 0.7)):
        world = World(n=n, k=k, anchor_k=16, level=level, spread=0.5, drop=0.05)
        rates = checkpoints(world, 20_000, 6).rates
        kept = f"{rates['pass']:.3f}  {rates['strict']:.3f}  {rates['fail']:.2f}"
        print(f"  n={n:4} K={k} level={level}  {kept}")
    print("what t alone would do, and what the guards do")
    ceiling = World(n=60, k=1, anchor_k=1, level=1.0, drop=0.05)
    rare = World(n=60, k=1, anchor_k=16, level=0.02)
    for name, world, alpha, what in (
        ("60 perfect anchors, true −5%, alpha .0025: PASS", ceiling, 0.0025, "pass"),
        ("base rate .02, nothing changed, alpha .05: FAIL", rare, 0.05, "fail"),
    ):
        bare, kept = (
            checkpoints(world, 20_000, 7, alpha=alpha, guard=guard).rates[what]
            for guard in (False, True)
        )
        print(f"  {name}: {bare:.3f} without, {kept:.3f} with")
    print("one metric worse: chance of FAIL at −6%, −8%, −10%")
    for n in (60, 150, 500, 1000):
        for k in (1, 4, 16):
            world = World(n=n, k=k, anchor_k=16, spread=0.5)
            caught = [
                checkpoints(replace(world, drop=drop), trials // 2, 9).rates["fail"]
                for drop in (0.06, 0.08, 0.10)
            ]
            print(f"  n={n:4} K={k:2}  " + "  ".join(f"{rate:.2f}" for rate in caught))
    print("ten metrics at −3%: chance of FAIL, of it by the strict arm")
    for n in (500, 2000):
        rates = checkpoints(World(n=n, k=4, metrics=10, drop=0.03), 400, 11).rates
        print(f"  n={n}  {rates['fail']:.3f}  {rates['strict']:.3f}")


if __name__ == "__main__":
    figures()
    for row in run():
        print(row)
