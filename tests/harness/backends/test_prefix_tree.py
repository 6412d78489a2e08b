"""Trees of texts: every token stands in them once, and passes go on from what was read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.transformers.prefix_tree import (
    Course,
    Node,
    Tokens,
    common_length,
    count,
    tree_of,
    walk,
)  # fmt: skip

TEXTS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=14
)


def whole(node: Node) -> Tokens:
    return (*(whole(node.parent) if node.parent else ()), *node.tokens)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_every_text_is_a_path_and_nothing_is_in_the_tree_twice(
    texts: list[Tokens], worth: int
) -> None:
    roots = tree_of(texts, worth=worth)
    ends = [(index, whole(node)) for node in walk(roots) for index in node.texts]
    assert sorted(ends) == list(enumerate(texts))
    assert all(node.tokens for node in walk(roots))
    assert all(node.start == (node.parent.end if node.parent else 0) for node in walk(roots))
    distinct = {text[:size] for text in texts for size in range(1, len(text) + 1)}
    assert count(tree_of(texts, worth=1)) == len(distinct)
    assert len(distinct) <= count(roots) <= sum(map(len, set(texts)))
    # What is cut off saves what it must.
    for node in walk(roots):
        assert node.texts or len(node.tokens) * (len(node.children) - 1) >= worth


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30), st.integers(1, 12))
def test_a_course_reads_each_token_once_behind_what_it_follows(
    texts: list[Tokens], worth: int, tokens: int
) -> None:
    roots = tree_of(texts, worth=worth)
    course = Course(roots)
    kept: Tokens = ()
    read = 0
    while pieces := course.take(tokens):
        assert pieces == course.take(tokens)
        assert sum(len(piece.tokens) for piece in pieces) <= tokens
        for piece in pieces:
            read += len(piece.tokens)
            text = whole(piece.node)[: piece.end]
            before = () if piece.after is None else whole(pieces[piece.after].node)
            behind = kept if piece.after is None else before[: pieces[piece.after].end]
            assert text == (*behind[: piece.start], *piece.tokens)
            assert piece.ends == (piece.end == piece.node.end)
        node, end = course.goes_on_from
        if node is not None and any(p.node is node and p.end == end for p in pieces):
            kept = whole(node)[:end]
        course.passed()
    assert read == count(roots)


@settings(deadline=None)
@given(TEXTS)
def test_what_all_texts_share_can_be_left_out(texts: list[Tokens]) -> None:
    longer = [(7, 8, 9, *text) for text in texts]
    roots = tree_of(longer, worth=1, start=3)
    ends = [(index, whole(node)) for node in walk(roots) for index in node.texts]
    assert sorted(ends) == list(enumerate(texts))
    assert all(root.start == 3 for root in roots)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 40))
def test_what_cant_be_read_is_left_out_with_all_that_follows_it(
    texts: list[Tokens], lost: int
) -> None:
    course = Course(tree_of(texts, worth=1))
    found: list[int] = []
    number = 0
    while pieces := course.take(1):
        if number == lost:
            found += [index for node in course.skip() for index in node.texts]
        else:
            found += [index for piece in pieces if piece.ends for index in piece.node.texts]
            course.passed()
        number += 1
    assert sorted(found) == list(range(len(texts)))


@settings(deadline=None)
@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_common_lengths(a: list[int], b: list[int]) -> None:
    size = common_length(tuple(a), tuple(b))
    assert a[:size] == b[:size]
    assert size == min(len(a), len(b)) or a[size] != b[size]


def test_ten_thousand_texts_with_one_token_in_common() -> None:
    texts = [(1, 2 + n, 3 + n % 7, 4) for n in range(10_000)]
    roots = tree_of(texts, worth=8)
    assert count(roots) == 1 + 3 * 10_000
    assert len(roots[0].children) == 10_000


def test_texts_that_are_each_others_beginnings() -> None:
    texts = [tuple(range(size)) for size in range(1, 3000)]
    assert count(tree_of(texts, worth=8)) == 2999
