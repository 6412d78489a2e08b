"""Splits rows into train and validation so that no two that belong together part."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.digests import digest_of
from trainers.data.rows import Placed, as_line


def groups_of(
    rows: Sequence[Placed], *, by: str | None, alike: Sequence[tuple[int, int]] = ()
) -> list[int]:
    """For each row the number of the first row that it belongs to: those made of one row, those of
    one id, those with an equal value in the column `by`, and pairs that are `alike`.
    """
    first = list(range(len(rows)))

    def root(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = first[number]
        return number

    def join(one: int, other: int) -> None:
        a, b = root(one), root(other)
        first[max(a, b)] = min(a, b)

    known: dict[tuple[str, str], int] = {}
    for number, placed in enumerate(rows):
        names = [("id", placed.parent or placed.id)]
        if by is not None and placed.row.get(by) is not None:
            names.append(("by", as_line({"by": placed.row[by]})))
        for name in names:
            join(known.setdefault(name, number), number)
    for one, other in alike:
        join(one, other)
    return [root(number) for number in range(len(rows))]


def held_out(rows: Sequence[Placed], groups: Sequence[int], share: float, seed: int) -> list[bool]:
    """Whether each row is held out, for about `share` of them, 0 to 1. It depends on the smallest
    id of the row's group alone, so that a row that is added moves no other group.
    """
    names: dict[int, str] = {}
    for placed, group in zip(rows, groups, strict=True):
        name = placed.parent or placed.id
        names[group] = min(names.get(group, name), name)
    out = {g: int(digest_of([seed, n]), 16) / 16**16 < share for g, n in names.items()}
    return [out[group] for group in groups]
