"""Near duplicates: looking at rare shingles alone finds what comparing everything finds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.characters import weight
from harness.data.duplicates import (
    CHARACTERS,
    SHORTEST_CONTAINED,
    Index,
    Kind,
    Passage,
    compared,
    squeezed,
    stands_in,
)
from harness.data.shingles import least_common, run_length, shingles

Found = tuple[str, Kind, float]


def by_all_pairs(held: list[str], text: str, near: float) -> Iterator[Found]:
    """What `Index.like` must find, without any index."""
    normal = compared(text)
    for number, other in enumerate(held):
        theirs = compared(other)
        if squeezed(theirs) and squeezed(theirs) == squeezed(normal):
            yield f"h{number}", "exact", 1.0
        if not theirs:
            continue
        mine, parts = shingles(normal, run_length(theirs)), shingles(theirs)
        common = len(mine & parts)
        if not common:
            continue
        jaccard = common / len(mine | parts)
        if normal == theirs:
            yield f"h{number}", "exact", 1.0
        elif jaccard >= near:
            yield f"h{number}", "near", jaccard
        elif len(parts) >= SHORTEST_CONTAINED:
            if common / len(parts) >= near and len(mine) > len(parts):
                yield f"h{number}", "contained", common / len(parts)
        elif common == len(parts) and stands_in(theirs, normal):
            yield f"h{number}", "contained", 1.0


def by_index(index: Index, text: str, near: float) -> list[Found]:
    return sorted((passage.name, kind, like) for passage, kind, like in index.like(text, near))


def passages(texts: list[str], start: int = 0) -> list[Passage]:
    return [Passage("task", f"h{start + i}", (text,)) for i, text in enumerate(texts)]


ENGLISH = [
    "please",
    "book",
    "a",
    "table",
    "for",
    "two",
    "at",
    "seven",
    "tonight",
    "Li",
    "by",
    "3",
    "-",
]
CHINESE = list("请帮我预订今天晚上七点的两人桌名字是李先生最好靠近窗户，。")


def line(rng: random.Random, words: list[str], longest: int) -> str:
    return (" " if words is ENGLISH else "").join(rng.choices(words, k=rng.randint(0, longest)))


def varied(rng: random.Random, text: str) -> str:
    """The text with a few characters left out, changed or put in, perhaps within another."""
    letters = list(text)
    for _ in range(rng.randint(0, 3)):
        if letters:
            place = rng.randrange(len(letters))
            letters[place : place + rng.randint(0, 2)] = rng.choice(["", "x", " ", "王", "é"])
    around = rng.choice(["", "", "And so they said: ", "客户说："])
    return around + "".join(letters) + rng.choice(["", "", " and left.", "然后走了"])


@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0]))
@settings(max_examples=60, deadline=None)
def test_rare_shingles_find_what_all_pairs_find(seed: int, near: float) -> None:
    rng = random.Random(seed)
    held = [line(rng, rng.choice([ENGLISH, CHINESE]), 20) for _ in range(30)]
    held += [varied(rng, text) for text in held[:10]]
    index = Index(passages(held[:25]), word_for_word=True)
    by_index(index, "asked before the others are added", near)
    index.add(passages(held[25:], 25))
    asked = [*(varied(rng, rng.choice(held)) for _ in range(10)), line(rng, ENGLISH, 60)]
    for text in asked:
        assert by_index(index, text, near) == sorted(by_all_pairs(held, text, near))
    for threads in (1, 2):
        each = [
            (n, p.name, kind, like) for n, p, kind, like in index.like_each(asked, near, threads)
        ]
        assert each == [
            (n, p.name, kind, like)
            for n, text in enumerate(asked)
            for p, kind, like in index.like(text, near)
        ]


ODD = (
    "aB 1２3-+*/^=<>.:−×÷,，。…½№℃ßΣσİéÉ\u0301\u200b\ufe0f\u3099がｶﾞㄱㅏ가각\u1161\u11a8你好㐀"
    "ﬁ\u3000\t\n\x1c\x00\ue02d😀👍🏽\ud800กำ"
)


@given(st.lists(st.one_of(st.text(alphabet=ODD, max_size=30), st.text(max_size=10)), max_size=8))
@settings(max_examples=400, deadline=None)
def test_many_texts_at_once_are_read_as_each_is_compared(texts: list[str]) -> None:
    batch = CHARACTERS.read(texts)
    told = {int(number): batch.text(place) for place, number in enumerate(batch.numbers)}
    assert told == {n: compared(text) for n, text in enumerate(texts) if n not in batch.apart}
    weights = CHARACTERS.weights(batch).tolist()
    assert weights == [weight(squeezed(told[number])) for number in sorted(told)]


def test_hardly_any_text_is_apart() -> None:
    texts = [
        *ENGLISH,
        *CHINESE,
        "Was it 3.5 or 4 - 2? “Où,” he said…",
        "価格は５０％です。",
        "русский",
    ]
    assert CHARACTERS.read(texts).apart == []


@pytest.mark.parametrize("near", [0.001, 0.1, 0.3, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_the_least_in_common_is_the_smallest_share_that_is_not_below(near: float) -> None:
    for size in range(1, 3000):
        shares = (n for n in range(1, size + 1) if n / size >= near)
        assert least_common(size, near) == next(shares)
