"""Which rows are learned from at which step: decided before the first one, and stored.

The data is a stream of segments, each the rows between two checkpoints. A training consumes
them in order; leaving data out means dropping a segment of the stream, so that the steps after
it are planned anew while those before it stay as they were. Spare segments stand at the end for
those that are dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from harness.core.digests import digest_of
from trainers.config.curriculum import class_weights, column_of, paced, weighted
from trainers.config.data_schema import SourceModel
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Stage
from trainers.config.shares import asked_rows, shared_out

PLAN_VERSION = 2
Reshuffles = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class DataPlan:
    """Segments of indices into the recipe's examples; the spare ones come after the planned.

    `again` plans anew after remedies (dropped segments in the order of their dropping, reshuffles);
    None where a plan of the first version is changed by itself.
    """

    segments: tuple[tuple[int, ...], ...]
    planned: int
    again: Callable[[Sequence[int], Reshuffles], DataPlan] | None = field(
        default=None, compare=False, repr=False
    )

    @property
    def digest(self) -> str:
        return digest_of([list(segment) for segment in self.segments])

    def indices(self, dropped: Collection[int] = ()) -> list[int]:
        """Row indices of the whole training, without the dropped segments (counted from 1)."""
        return [index for number in self.consumed(dropped) for index in self.segments[number - 1]]

    def consumed(self, dropped: Collection[int] = ()) -> list[int]:
        """The stream's segment numbers in the order in which they are learned from."""
        left = [n for n in range(1, len(self.segments) + 1) if n not in dropped]
        return left[: self.planned]


def make_plan(
    stage: Stage,
    *,
    spare: int,
    difficulty: Sequence[float] | None = None,
    version: int = PLAN_VERSION,
) -> DataPlan:
    """Draw every segment's rows by the mixture's weights, without replacement until a source is
    used up, and then from it again in a new order; within a source by the recipe's curriculum or
    balance, where it has one. `difficulty` is each example's, where no column says it.
    """
    rows = traits_of(stage.model.trainer).rows(stage.model, stage.model.checkpoint_every)
    total = stage.segments + spare
    if version == 1:
        return _first_way(stage, rows, total, difficulty)
    asked = asked_rows(stage.data.mix, rows, total)
    # A curriculum is paced over what is planned: by its end, and not by the last spare segment's,
    # every row may be drawn.
    lengths = [float(sum(each)) for each in zip(*asked[: stage.segments], strict=True)]

    def planned(dropped: Sequence[int], reshuffles: Reshuffles) -> DataPlan:
        whole = _totals(shared_out(asked, rows, planned=stage.segments))
        counts = shared_out(asked, rows, planned=stage.segments, dropped=dropped)
        drawn = [
            list(islice(_stream(stage, number, lengths[number], difficulty), max(before, now)))
            for number, (before, now) in enumerate(zip(whole, _totals(counts), strict=True))
        ]
        for after, seed in reshuffles:
            # Each source's rows among themselves: the segments keep what they have of each.
            for number, past in enumerate(_totals(counts[:after], len(whole))):
                tail = drawn[number][past : whole[number]]
                _generator(seed, f"{after}|{number}").shuffle(tail)
                drawn[number][past : whole[number]] = tail
        sources = [iter(each) for each in drawn]
        segments = []
        for number, given in enumerate(counts, start=1):
            chosen = [
                row for source, n in zip(sources, given, strict=True) for row in islice(source, n)
            ]
            _generator(stage.data.seed, f"order{number}").shuffle(chosen)
            segments.append(tuple(chosen))
        return DataPlan(tuple(segments), stage.segments, planned)

    return planned((), ())


def current_order(plan: DataPlan, dropped: Sequence[int], reshuffles: Reshuffles) -> list[int]:
    """Row indices of the whole stage, as remedies have left the plan."""
    if plan.again is not None:
        return plan.again(dropped, reshuffles).indices(dropped)
    for after, seed in reshuffles:
        plan = reshuffled(plan, after, seed)
    return plan.indices(dropped)


def without_rows(
    stage: Stage, order: Sequence[int], skipped: Sequence[tuple[int, Collection[int]]]
) -> list[int]:
    """The order with rows left out: each of `skipped` names how many rows stay as they were, and
    which ones do not occur behind them. In their places stand others of the same source, drawn by
    the recipe's seed and the place alone; so no other row moves, and the mixture stays.
    """
    rows = list(order)
    gone: set[int] = set()
    for after, numbers in sorted(skipped, key=lambda each: each[0]):
        gone.update(numbers)
        left = _left(stage, gone)
        for place in range(after, len(rows)):
            if rows[place] in gone and (others := left[stage.examples[rows[place]].source]):
                chance = _generator(stage.data.seed, f"instead{place}")
                rows[place] = others[int(chance.integers(len(others)))]
    return rows


def _left(stage: Stage, gone: Collection[int]) -> list[list[int]]:
    """By source: the rows that may stand in for those that are gone; any that is left where a
    source has none.
    """
    keep = [number for number in range(len(stage.examples)) if number not in gone]
    by_source: list[list[int]] = [[] for _ in stage.data.mix]
    for number in keep:
        by_source[stage.examples[number].source].append(number)
    return [rows or keep for rows in by_source]


def shares_of(stage: Stage, plan: DataPlan) -> list[tuple[float, float]]:
    """(asked, got) of each source: its share of the rows of the planned segments, 0 to 1."""
    rows = max(1, len(plan.segments[0]))
    asked = asked_rows(stage.data.mix, rows, plan.planned)
    learned = [stage.examples[index].source for index in plan.indices()]
    return [
        (
            float(sum(segment[number] for segment in asked) / (rows * plan.planned)),
            learned.count(number) / max(1, len(learned)),
        )
        for number in range(len(stage.data.mix))
    ]


def _totals(counts: Sequence[Sequence[int]], sources: int = 0) -> list[int]:
    return [sum(each) for each in zip(*counts, strict=True)] if counts else [0] * sources


def _generator(seed: int, name: int | str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(_seed(seed, name)))


def _first_way(stage: Stage, rows: int, total: int, difficulty: Sequence[float] | None) -> DataPlan:
    sources = stage.data.mix
    weights = sum(source.weight for source in sources)
    streams = [
        _stream(stage, number, source.weight / weights * (rows * total), difficulty)
        for number, source in enumerate(sources)
    ]
    segments = tuple(
        _segment(sources, streams, number, rows, stage.data.seed) for number in range(1, total + 1)
    )
    return DataPlan(segments, stage.segments)


def reshuffled(plan: DataPlan, after: int, seed: int) -> DataPlan:
    """The same rows, those after the first `after` segments in another order: the first way."""
    if plan.again is not None:
        return plan.again((), ((after, seed),))
    head = plan.segments[:after]
    tail = [index for segment in plan.segments[after:] for index in segment]
    np.random.Generator(np.random.Philox(_seed(seed, after))).shuffle(tail)
    size = len(plan.segments[0])
    again = tuple(tuple(tail[i : i + size]) for i in range(0, len(tail), size))
    return DataPlan((*head, *again), plan.planned)


def _segment(
    sources: Sequence[SourceModel],
    streams: Sequence[Iterator[int]],
    number: int,
    rows: int,
    seed: int,
) -> tuple[int, ...]:
    # A source that names its segments takes part in those alone; spare segments are ordinary ones.
    active = [
        index
        for index, source in enumerate(sources)
        if source.segments is None or number in source.segments
    ]
    counts = _shares([sources[index].weight for index in active], rows)
    chosen = [
        next(streams[index])
        for index, count in zip(active, counts, strict=True)
        for _ in range(count)
    ]
    np.random.Generator(np.random.Philox(_seed(seed, f"order{number}"))).shuffle(chosen)
    return tuple(chosen)


def _shares(weights: Sequence[float], rows: int) -> list[int]:
    """`rows` split by weight into whole numbers, the largest remainders rounded up."""
    exact = [weight / sum(weights) * rows for weight in weights]
    counts = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for index in order[: rows - sum(counts)]:
        counts[index] += 1
    return counts


def _stream(
    stage: Stage, source: int, length: float, difficulty: Sequence[float] | None
) -> Iterator[int]:
    """One source's rows, endlessly. A curriculum is paced over `length` draws of it."""
    rows = [i for i, example in enumerate(stage.examples) if example.source == source]
    seed, data = _seed(stage.data.seed, source), stage.data
    examples = [stage.examples[i] for i in rows]
    if data.balance is not None:
        weights = class_weights([str(example.columns[data.balance]) for example in examples])
        return (rows[i] for i in weighted(weights, seed=seed))
    if data.curriculum is not None and (difficulty or data.curriculum.by != "perplexity"):
        keys = (
            [difficulty[i] for i in rows] if difficulty else column_of(examples, data.curriculum.by)
        )
        paces = paced(keys, data.curriculum, length=max(1, round(length)), seed=seed)
        return (rows[i] for i in paces)
    return _endless(rows, seed)


def _endless(rows: list[int], seed: int) -> Iterator[int]:
    generator = np.random.Generator(np.random.Philox(seed))
    while True:
        yield from (rows[i] for i in generator.permutation(len(rows)))


def _seed(seed: int, name: int | str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big")
