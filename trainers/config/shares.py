"""How many rows each source gives to each segment, so that its share holds over the training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from trainers.config.data_schema import SourceModel

Counts = tuple[int, ...]
"""Rows of each source in one segment."""


def asked_rows(
    sources: Sequence[SourceModel], rows: int, segments: int
) -> tuple[tuple[Fraction, ...], ...]:
    """For each segment how many of its `rows` each source is to give, as exact fractions: its
    weight over the weights of those that take part there; 0 where it takes no part.
    """
    table = []
    for number in range(1, segments + 1):
        weights = [
            Fraction(source.weight)
            if source.segments is None or number in source.segments
            else Fraction(0)
            for source in sources
        ]
        table.append(tuple(weight / sum(weights) * rows for weight in weights))
    return tuple(table)


def shared_out(
    asked: Sequence[Sequence[Fraction]], rows: int, *, planned: int, dropped: Sequence[int] = ()
) -> tuple[Counts, ...]:
    """Whole numbers of rows for each segment of the stream, `rows` of them in each.

    What a source was owed is carried over: after each segment that is learned from it has had its
    share to within a row or two, over however many segments that takes. A source that is asked for
    at all gives at least one row of the `planned` segments. `dropped` are segments (from 1) that
    were planned and then left out, in the order in which that happened: those up to the last of
    them stay as they were, and those after it make up for what was left out.
    """
    counts = _continued(asked, rows, planned, (), ())
    for number in range(1, len(dropped) + 1):
        gone = dropped[:number]
        counts = _continued(asked, rows, planned, counts[: max(gone)], gone)
    return counts


def _continued(
    asked: Sequence[Sequence[Fraction]],
    rows: int,
    planned: int,
    head: Sequence[Counts],
    dropped: Collection[int],
) -> tuple[Counts, ...]:
    owed = [Fraction(0)] * len(asked[0])
    for number, (wanted, given) in enumerate(zip(asked, head, strict=False), start=1):
        if number not in dropped:
            owed = [o + w - g for o, w, g in zip(owed, wanted, given, strict=True)]
    counts = list(head)
    for wanted in asked[len(head) :]:
        owed = [o + w for o, w in zip(owed, wanted, strict=True)]
        given = _nearest(owed, [w > 0 for w in wanted], rows)
        owed = [o - g for o, g in zip(owed, given, strict=True)]
        counts.append(given)
    _give_each_one(asked, counts, planned, len(head), dropped)
    return tuple(counts)


def _nearest(owed: Sequence[Fraction], active: Sequence[bool], rows: int) -> Counts:
    """Whole numbers with the sum `rows` for the active sources, each as near to what it is owed as
    can be; of two that are owed alike the first in the recipe comes first.
    """
    given = [max(0, int(o)) if on else 0 for o, on in zip(owed, active, strict=True)]
    places = [i for i, on in enumerate(active) if on]
    while sum(given) < rows:
        most = max(places, key=lambda i: owed[i] - given[i])
        given[most] += 1
    while sum(given) > rows:
        least = min((i for i in places if given[i]), key=lambda i: owed[i] - given[i])
        given[least] -= 1
    return tuple(given)


def _give_each_one(
    asked: Sequence[Sequence[Fraction]],
    counts: list[Counts],
    planned: int,
    head: int,
    dropped: Collection[int],
) -> None:
    """A source whose share of the whole training is less than a row still gives one: in the last
    segment that has room, in the place of a row of a source that gives more than one.
    """
    learned = [i for i in range(len(counts)) if i + 1 not in dropped][:planned]
    total = [sum(counts[i][source] for i in learned) for source in range(len(asked[0]))]
    for source, given in enumerate(total):
        places = [i for i in learned if asked[i][source] > 0 and i >= head]
        for place in reversed(places if not given else ()):
            segment = list(counts[place])
            most = max((n for n in range(len(total)) if segment[n]), key=total.__getitem__)
            if total[most] > 1:
                segment[most] -= 1
                segment[source] += 1
                counts[place] = tuple(segment)
                total[most], total[source] = total[most] - 1, 1
                break
