"""Whether a version of the data is worse than another: decided over samples and over trainings.

What pairs with what: a recipe is trained on both versions with each seed, for equally many steps.
Trainings of one seed are a pair: they begin with the same weights, drop out alike and are asked
with the same randomness, and within a pair the suite's samples are paired by their ids. The order
of the rows is not shared: it is drawn from the seed over a version's own rows, so that one row more
moves all others. What order alone does is part of what differs between seeds, and the verdict must
hold over seeds as well as over samples. One seed would only tell two checkpoints apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from harness.gate.checks import Scores
from harness.gate.decision import agreed, decide
from harness.gate.intervals import value_with_interval
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, pair
from harness.gate.policy import GatePolicy
from harness.gate.verdict import Verdict
from harness.statistics.power import smallest_distance

Trainings = Mapping[int, tuple[Scores, Scores]]
"""Seed -> the scores of both versions' trainings with it, the anchor's first."""

MOST_SEEDS = 1000
_SEED = " of seed "
"""Between a sample's id and the seed: no id of a seed alone has it."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much a metric differs between seeds. `visible` is the drop that these seeds show in four
    cases of five, and `margin` the one that is allowed, both shares of the anchor's value;
    `needed` are the seeds that show the margin, None where a thousand don't.
    """

    metric: str
    visible: float
    margin: float
    needed: int | None


@dataclass(frozen=True, slots=True)
class DataVerdict:
    """`verdict` is the more careful of the two; `rooms` of the metrics that decide."""

    verdict: Verdict
    by_sample: Verdict
    by_seed: Verdict
    rooms: tuple[Room, ...]

    @property
    def scarcest(self) -> Room | None:
        """The metric that needs most seeds."""
        return max(self.rooms, key=lambda room: room.needed or MOST_SEEDS + 1, default=None)


def decide_data(
    trainings: Trainings, policy: GatePolicy, *, today: date | None = None
) -> DataVerdict:
    """Compare two versions by what was learned from them.

    PASS and FAIL are what both views come to: over samples, each with its answers of all seeds as
    one cluster, and over seeds, each with the metric's whole value. Where they differ, or two seeds
    can't tell, it is inconclusive. So a version that is like the other fails in at most `alpha` of
    cases, whatever a seed alone does to a model.
    """
    sides = [{seed: both[place] for seed, both in trainings.items()} for place in (0, 1)]
    whole = [_over(side, _answers) for side in sides]
    means = [_over(side, _values) for side in sides]
    by_sample = decide(whole[0], whole[1], policy, today=today)
    of_seeds = _for_seeds(policy, whole[0])
    by_seed = decide(means[0], means[1], of_seeds, today=today)
    alpha = policy.alpha / max(1, by_seed.tests)
    names = [row.metric for row in by_seed.rows if row.required]
    rooms = [
        _room(name, means[0][name], means[1][name], of_seeds, alpha)
        for name in names
        if name in means[0] and name in means[1]
    ]
    by_sample, by_seed = _plainly(by_sample), _plainly(by_seed)
    by_seed = replace(by_seed, headline=by_seed.headline.replace(" samples", " seeds"))
    verdict = agreed([by_sample, by_seed])
    return DataVerdict(verdict, by_sample, by_seed, tuple(filter(None, rooms)))


def _plainly(verdict: Verdict) -> Verdict:
    """The samples that moved most by their own ids, each once; of seeds none."""
    rows = []
    for row in verdict.rows:
        moved = {m.id.rpartition(_SEED)[0]: m for m in reversed(row.measured.moved)}
        named = tuple(replace(m, id=i) for i, m in reversed(moved.items()) if i)
        rows.append(replace(row, measured=replace(row.measured, moved=named)))
    return replace(verdict, rows=tuple(rows))


def _over(
    side: Mapping[int, Scores], made: Callable[[Mapping[int, MetricScores]], MetricScores]
) -> dict[str, MetricScores]:
    """The metrics that every seed has: what one of them lacks is missing for the gate too."""
    names = [name for name in next(iter(side.values())) if all(name in s for s in side.values())]
    return {name: made({seed: scores[name] for seed, scores in side.items()}) for name in names}


def _answers(by_seed: Mapping[int, MetricScores]) -> MetricScores:
    """All seeds' answers; those to one sample, or to a cluster of samples, are one cluster."""

    def every(name: str) -> dict[str, Any] | None:
        parts = {seed: getattr(scores, name) for seed, scores in by_seed.items()}
        if any(part is None for part in parts.values()):
            return None
        return {_key(i, seed): value for seed, part in parts.items() for i, value in part.items()}

    first = next(iter(by_seed.values()))
    clusters = {
        _key(i, seed): (scores.clusters or {}).get(i, i)
        for seed, scores in by_seed.items()
        for i in scores.values
    }
    labels = first.slices or {}
    slices = {
        field: {_key(i, seed): label for seed in by_seed for i, label in of.items()}
        for field, of in labels.items()
        if isinstance(of, Mapping)
    }
    return replace(
        first,
        values=every("values") or {},
        weights=every("weights"),
        variance=every("variance"),
        stats=every("stats"),
        rates=every("rates"),
        clusters=clusters,
        slices=slices or None,
        errors=sum(scores.errors for scores in by_seed.values()),
        lost=sum(scores.lost for scores in by_seed.values()),
        total=sum(_total(scores) for scores in by_seed.values()),
    )


def _key(sample: str, seed: int) -> str:
    return f"{sample}{_SEED}{seed}"


def _total(scores: MetricScores) -> int:
    return scores.total if scores.total is not None else len(scores.values) + scores.errors


def _values(by_seed: Mapping[int, MetricScores]) -> MetricScores:
    """One value for each seed: the metric's own, over all samples."""
    first = next(iter(by_seed.values()))
    found = {seed: value_with_interval(scores)[0] for seed, scores in by_seed.items()}
    return MetricScores(
        values={_named(seed): value for seed, value in found.items() if value is not None},
        direction=first.direction,
        scale=first.scale,
        form="winshare" if first.form == "winshare" else "mean",
        worst=first.worst,
        best=first.best,
        unit=first.unit,
        timed=first.timed,
        summed=True,
    )


def _named(seed: int) -> str:
    return f"seed {seed}"


def _for_seeds(policy: GatePolicy, anchor: Scores) -> GatePolicy:
    """The policy over whole values: what is asked of single samples is asked over samples alone."""
    own = {}
    for name in {*policy.metrics, *anchor}:
        given = policy.metrics.get(name) or policy.of(name)
        floor = given.floor
        if floor is None and name in anchor and anchor[name].scale == "interval":
            # A share of how far samples lie apart, of which seeds know nothing.
            floor = policy.margin_of(name) * float(np.std(list(anchor[name].values.values())))
        plain: dict[str, Any] = dict.fromkeys(("at_least", "at_most", "rate_at_most", "by"))
        own[name] = given.model_copy(update={**plain, "fixed_set": False, "floor": floor})
    return policy.model_copy(update={"metrics": own})


def _room(
    name: str, anchor: MetricScores, candidate: MetricScores, policy: GatePolicy, alpha: float
) -> Room | None:
    """None where the pairs can't be compared."""
    try:
        paired = pair(anchor, candidate)
    except MismatchError:
        return None
    level = abs(paired.anchor_value)
    if paired.n < 2 or not level:
        return None
    # What a version does to a metric may itself differ by seed, and says nothing of this margin:
    # then two trainings on the anchor tell how far luck alone sets a pair apart.
    sd = min(float(np.std(paired.harm, ddof=1)), 2**0.5 * float(np.std(paired.anchor, ddof=1)))
    margin = policy.margin_of(name) + (policy.of(name).floor or 0.0) / level

    def shown(seeds: int) -> float:
        return smallest_distance(sd, seeds, alpha) / level

    needed = next((n for n in range(2, MOST_SEEDS + 1) if shown(n) <= margin), None)
    return Room(name, shown(paired.n), margin, needed)
