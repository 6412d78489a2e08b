"""Batches: no request is left out or comes twice, and one that ends replicas is soon found."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from harness.backends.ray.batches import ANSWERS_AT_ONCE, LOSSES, TOKENS_AT_ONCE, Batch, in_batches


@dataclass(frozen=True)
class Asked:
    id: str
    answers: int
    tokens: int


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 70_000)), max_size=400),
    st.integers(1, 20),
)
def test_each_request_is_in_one_batch_and_batches_are_bounded(
    sizes: list[tuple[int, int]], replicas: int
) -> None:
    asked = [Asked(str(number), *size) for number, size in enumerate(sizes)]
    batches = in_batches(asked, lambda one: (one.answers, one.tokens), replicas)
    found = [one for batch in batches for one in batch.requests]
    assert sorted(found, key=lambda one: int(one.id)) == asked
    assert [one.tokens for one in found] == sorted((one.tokens for one in asked), reverse=True)
    for batch in batches:
        if len(batch.requests) > 1:
            assert sum(one.answers for one in batch.requests) <= ANSWERS_AT_ONCE
            assert sum(one.tokens for one in batch.requests) <= TOKENS_AT_ONCE


def test_those_of_one_kin_stand_together_longest_first() -> None:
    asked = [Asked(f"{n}", 1, 10 + 7 * n % 40) for n in range(40)]
    batches = in_batches(
        asked, lambda one: (one.answers, one.tokens), 2, lambda one: int(one.id) // 4
    )
    found = [int(one.id) // 4 for batch in batches for one in batch.requests]
    assert len(found) == 40
    assert sum(a != b for a, b in itertools.pairwise(found)) == 9
    heads = [
        max(one.tokens for one in asked if int(one.id) // 4 == kin) for kin in dict.fromkeys(found)
    ]
    assert heads == sorted(heads, reverse=True)


def test_every_replica_has_work_where_there_is_little() -> None:
    asked = [Asked(str(number), 1, 10) for number in range(10)]
    assert len(in_batches(asked, lambda one: (one.answers, one.tokens), 3)) == 3


@given(st.integers(1, ANSWERS_AT_ONCE), st.data())
def test_a_request_that_ends_replicas_is_given_up_and_the_others_are_answered(
    count: int, data: st.DataObject
) -> None:
    killer = data.draw(st.integers(0, count - 1))
    waiting, answered, given_up, losses = [Batch(tuple(range(count)))], [], [], 0
    while waiting:
        batch = waiting.pop()
        if killer not in batch.requests:
            answered.extend(batch.requests)
            continue
        losses += 1
        for piece in batch.after_a_loss():
            (given_up if piece.is_given_up else waiting).append(piece)
    assert [piece.requests for piece in given_up] == [(killer,)]
    assert sorted(answered) == [n for n in range(count) if n != killer]
    assert losses == LOSSES
