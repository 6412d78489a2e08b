"""What a row has of its own: its text without the words that all rows beside it have alike.

An instruction that stands around every question makes any two questions alike, and hides one that
is asked elsewhere without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.data.duplicates import CJK_SIGN, Passage, compared, says_enough


def unframed(texts: Sequence[str]) -> list[str]:
    """Each text without what all of them begin with and what all of them end with, in whole words.
    Of fewer than two different texts nothing is left out; a rest that is too short to say which
    text it is of is empty.
    """
    distinct = sorted(set(texts))
    if len(distinct) < 2:
        return list(texts)
    shortest = min(map(len, distinct))
    # Of sorted texts the first and the last differ soonest.
    head = _to_a_word(_common(distinct[0], distinct[-1]))
    mirrored = sorted(text[::-1] for text in distinct)
    tail = _to_a_word(_common(mirrored[0], mirrored[-1]))
    end = min(len(tail), shortest - len(head))
    if not head and not end:
        return list(texts)
    rests = [text[len(head) : len(text) - end] for text in texts]
    return [rest if says_enough(compared(rest)) else "" for rest in rests]


def own_parts(passages: Iterable[Passage]) -> list[Passage]:
    """The samples with their own parts, task by task. One whose own part is too short is found by
    what equals it as a whole.
    """
    groups: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        groups[passage.group].append(passage)
    found: list[Passage] = []
    for group in groups.values():
        for places in {len(passage.texts) for passage in group}:
            alike = [passage for passage in group if len(passage.texts) == places]
            rests = zip(
                *(unframed([p.texts[i] for p in alike]) for i in range(places)), strict=True
            )
            for passage, own in zip(alike, rests, strict=False):
                found.append(passage if own == passage.texts else replace(passage, parts=own))
    return found


def _common(one: str, other: str) -> str:
    """What both begin with."""
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return one[:place]
    return min(one, other, key=len)


def _to_a_word(start: str) -> str:
    """As much of a beginning as ends with a space, a mark or a Chinese character."""
    while start and (start[-1].isalnum() and not CJK_SIGN.match(start[-1])):
        start = start[:-1]
    return start
