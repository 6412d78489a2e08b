"""Draw the pictures of the pages: from the gate's own functions, the contracts, a real run.

`python docs/site/pictures.py` writes them into docs/images/.

Every world in them is seeded, so that drawing again gives the same pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from house import draw_house  # noqa: E402
from rollback import draw_rollback  # noqa: E402
from svg import Picture  # noqa: E402

from harness.gate.decision import decide  # noqa: E402
from harness.gate.improvement import improved  # noqa: E402
from harness.gate.metric_scores import MetricScores  # noqa: E402
from harness.gate.policy import GatePolicy  # noqa: E402
from harness.statistics.alpha_spending import look_alphas, spent  # noqa: E402
from harness.statistics.margins import harm, linear_allowance  # noqa: E402
from harness.statistics.simulate import World, answers, chances, checkpoints, trainings  # noqa: E402
from harness.statistics.student_t import Array  # noqa: E402

SIZES = (60, 150, 500, 1000, 2000)
TRIALS = 1000
PERCENT = [(v, f"{v:.0%}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]


def bare_rule(world: World, trials: int, seed: int, margin: float = 0.05) -> float:
    """How often some metric of an identical checkpoint is over the margin, compared as numbers."""
    rng = np.random.default_rng(seed)
    chance = chances(rng, world, trials)
    anchor, candidate = answers(rng, chance, world.anchor_k), answers(rng, chance, world.k)
    z = harm(anchor, candidate, "higher") - linear_allowance(anchor, margin, 0.0)
    return float((z.mean(-1) > 0).any(-1).mean())


@cache
def false_alarms() -> dict[str, list[float]]:
    """Chance that an identical checkpoint fails, for each of SIZES, one answer a sample."""
    worlds = {m: [World(n=n, k=1, anchor_k=1, metrics=m) for n in SIZES] for m in (1, 10)}
    return {
        "bare rule, ten metrics": [bare_rule(w, TRIALS, 1) for w in worlds[10]],
        "bare rule, one metric": [bare_rule(w, TRIALS, 2) for w in worlds[1]],
        "Ratchet, ten metrics": [checkpoints(w, TRIALS, 3).rates["fail"] for w in worlds[10]],
    }


def draw_false_alarms() -> Picture:
    picture = Picture(
        "An identical checkpoint is rolled back",
        "Chance that a checkpoint identical to its anchor is failed, by the number of samples.",
        (np.log(SIZES[0]), np.log(SIZES[-1])),
        (0, 1),
        right=190,
    )
    xs = [(float(np.log(n)), f"{n}") for n in SIZES]
    picture.axes(xs, PERCENT, "samples, one answer each (70% right)")
    kinds = ("bad", "mild", "good")
    for (name, rates), kind in zip(false_alarms().items(), kinds, strict=True):
        points = [(x, rate) for (x, _), rate in zip(xs, rates, strict=True)]
        picture.line(points, kind)
        for point in points:
            picture.dot(point, kind, 4)
        # Where the three meet there is no room for words.
        place, lift = {"bad": (1, 4.0), "mild": (0, -14.0), "good": (-1, 4.0)}[kind]
        picture.word(points[place], name, kind, dx=14, dy=lift)
    return picture


def draw_verdicts() -> Picture:
    """The same truth with more and more samples: what an interval shows, and what it can't yet."""
    picture = Picture(
        "Four candidates, and what could be shown",
        "Intervals of the change against the margin of five per cent, and the verdict of each.",
        (-0.2, 0.1),
        (0, 5),
        left=214,
        right=130,
        height=310,
    )
    ticks = [(v, f"{v:+.0%}" if v else "0") for v in (-0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1)]
    picture.axes(ticks, [], "change against the anchor, with its 95% interval")
    picture.band((-0.05, 0), (0.1, 5), "good")
    picture.line([(-0.05, 0), (-0.05, 5)], "dash dull")
    picture.word((-0.05, 5), "margin", "dull", anchor="middle", dy=-6)
    cases = (
        ("unchanged, 60 samples", 60, 1, 0.0),
        ("unchanged, 1000 samples", 1000, 8, 0.0),
        ("10% worse, 60 samples", 60, 1, 0.1),
        ("10% worse, 1000 samples", 1000, 8, 0.1),
    )
    kinds = {"pass": "good", "fail": "bad", "inconclusive": "mild"}
    for place, (name, n, k, drop) in enumerate(cases):
        (row,) = decide(*_pair(n, k, drop), GatePolicy()).rows
        relative, interval = row.measured.relative, row.measured.relative_interval
        assert relative is not None
        assert interval is not None
        y, kind = 4.2 - place * 1.15, kinds[row.outcome.value]
        low, high = (min(max(v, -0.2), 0.1) for v in interval)
        picture.line([(low, y), (high, y)], kind)
        picture.dot((relative, y), kind, 6)
        picture.word((-0.2, y), name, "dull", anchor="end", dx=-14)
        picture.word((0.1, y), row.outcome.value, kind, dx=12)
    return picture


def _pair(n: int, k: int, drop: float) -> tuple[Mapping[str, MetricScores], ...]:
    """An anchor with 16 answers a sample, and a candidate with `k` that is `drop` worse."""
    rng = np.random.default_rng(5)
    chance = chances(rng, World(n=n), 1)
    return (
        {"qa/exact_match": _scores(answers(rng, chance, 16)[0, 0], 16)},
        {"qa/exact_match": _scores(answers(rng, chance * (1 - drop), k)[0, 0], k)},
    )


def _scores(values: Array, responses: int = 1) -> MetricScores:
    named = {f"s{i}": float(value) for i, value in enumerate(values)}
    return MetricScores(named, worst=0.0, best=1.0, responses=responses)


COUNTS = (1, 5, 10, 20, 40)


@cache
def whole_trainings() -> dict[str, list[float]]:
    """Chance of any FAIL in a training of identical checkpoints, for each of COUNTS."""
    world = World(n=60, k=4)
    return {
        "5% at each": [
            trainings(world, c, TRIALS, 4, alpha=0.05 * c).rates["fail"] for c in COUNTS
        ],
        "5% split": [trainings(world, c, TRIALS, 4).rates["fail"] for c in COUNTS],
    }


def draw_trainings() -> Picture:
    picture = Picture(
        "A false rollback somewhere in a training",
        "Chance of any false rollback in a training of identical checkpoints, by their number.",
        (0, COUNTS[-1]),
        (0, 0.7),
    )
    ys = [(v, f"{v:.0%}") for v in (0.0, 0.05, 0.2, 0.4, 0.6)]
    picture.axes([(c, f"{c}") for c in COUNTS], ys, "checkpoints, none of them different")
    for (name, rates), kind in zip(whole_trainings().items(), ("bad", "good"), strict=True):
        points = list(zip(map(float, COUNTS), rates, strict=True))
        picture.line(points, kind)
        for point in points:
            picture.dot(point, kind, 4)
        picture.word(points[-1], name, kind, dx=10)
    return picture


def draw_looks() -> Picture:
    picture = Picture(
        "What each look may spend of alpha",
        "Alpha spent by the share of the evidence that is in; little early, most at the end.",
        (0, 1),
        (0, 0.05),
    )
    ys = [(v / 100, f"{v}%") for v in range(6)]
    picture.axes([(t, f"{t:.0%}") for t in (0.0, 0.25, 0.5, 1.0)], ys, "share of the evidence")
    picture.line([(t / 100, spent(t / 100, 0.05)) for t in range(101)], "good")
    shares = (0.25, 0.5, 1.0)
    total = 0.0
    for j, (share, alpha) in enumerate(zip(shares, look_alphas(0.05, shares), strict=True), 1):
        picture.line([(share, total), (share, total + alpha)], "mild dash")
        total += alpha
        picture.dot((share, total), "good", 5)
        left = share == 1.0
        picture.word(
            (share, total),
            f"look {j}: {alpha:.3%}",
            "mild",
            dx=12 if left else -4,
            dy=4 if left else -14,
            anchor="start" if left else "end",
        )
    return picture


QUALITY = (0.02, 0.24, 0.45, 0.62, 0.74, 0.8, 0.81, 0.42, 0.43, 0.41)
"""True shares of right answers: a training that climbs, and after step 6 is spoiled."""


def climb() -> list[tuple[float, bool, bool, bool]]:
    """(score, is the new best, fails against the anchor, fails against the best) per checkpoint.

    A failed checkpoint is left as it is here, so that what follows shows too.
    """
    rng = np.random.default_rng(8)
    runs = [{"qa": _scores((rng.random(200) < q).astype(float))} for q in QUALITY]
    policy = GatePolicy(alpha=0.05 / len(QUALITY))
    found, best_checkpoint = [], 0
    for i, run in enumerate(runs):
        fails = [
            i > 0 and decide(runs[j], run, policy).outcome == "fail" for j in (0, best_checkpoint)
        ]
        rises = i > 0 and not any(fails) and bool(improved(runs[best_checkpoint], run, policy))
        best_checkpoint = i if rises else best_checkpoint
        score = float(np.mean(list(run["qa"].values.values())))
        found.append((score, rises, *fails))
    return found


def draw_best_checkpoint() -> Picture:
    picture = Picture(
        "A collapse that the anchor can't see",
        "Scores of a training that climbs and collapses, with its best checkpoint.",
        (0, len(QUALITY) - 1),
        (0, 1),
        right=170,
    )
    xs = [(i, f"{i}") for i in range(len(QUALITY))]
    picture.axes(xs, PERCENT, "checkpoint (200 samples)")
    found = climb()
    anchor, level, levels = found[0][0], found[0][0], []
    for i, (score, rises, *_) in enumerate(found):
        levels += [(float(i), level)] if rises else []
        level = score if rises else level
        levels.append((float(i), level))
    end = float(len(QUALITY) - 1)
    picture.line([(0, anchor), (end, anchor)], "dull dash")
    picture.word((end, anchor), "anchor", "dull", dx=10)
    picture.line(levels, "good dash")
    picture.word(levels[-1], "best checkpoint", "good", dx=10)
    for i, (score, _, by_anchor, by_best) in enumerate(found):
        assert not by_anchor
        picture.dot((i, score), "bad" if by_best else "good", 6)
    picture.word((end, found[-1][0]), "fails: go back", "bad", dx=12)
    return picture


class Drawn(Protocol):
    """What gives the text of an SVG file."""

    def drawn(self) -> str: ...


PICTURES: Mapping[str, Callable[[], Drawn]] = {
    "rollback": draw_rollback,
    "house": draw_house,
    "false-alarms": draw_false_alarms,
    "verdicts": draw_verdicts,
    "trainings": draw_trainings,
    "looks": draw_looks,
    "best-checkpoint": draw_best_checkpoint,
}


def main() -> None:
    """Write each into docs/images/."""
    for name, draw in PICTURES.items():
        (ROOT / "docs" / "images" / f"{name}.svg").write_text(draw().drawn(), encoding="utf-8")


if __name__ == "__main__":
    main()
