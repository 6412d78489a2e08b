"""Self-BLEU against sacrebleu, and what must hold of it whatever the texts are."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from harness.core.errors import UserError
from harness.metrics.self_bleu import self_bleu

WORDS = (
    *("the", "cat", "sat", "on", "a", "mat", ",", "is.", "it's", "3.14", "10-20", "don't", "U.S."),
    *("<b>", "&amp;", "你好", "世界。", "-\n", "\n", "", "\ue0ff"),
)
TEXT = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


logging.getLogger("sacrebleu").setLevel(logging.ERROR)


def by_sacrebleu(texts, *, tokenize="13a", effective_order=True, max_order=4):
    bleu = BLEU(tokenize=tokenize, effective_order=effective_order, max_ngram_order=max_order)
    return [
        bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100
        for i, text in enumerate(texts)
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(TEXT, min_size=2, max_size=6),
    st.sampled_from(["13a", "zh", "char", "intl", "none"]),
    st.booleans(),
    st.integers(1, 5),
)
def test_equals_sacrebleu_of_each_text_against_the_others(texts, tokenize, effective, order):
    ours = self_bleu(texts, tokenize=tokenize, effective_order=effective, max_order=order)
    reference = by_sacrebleu(texts, tokenize=tokenize, effective_order=effective, max_order=order)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=2, max_size=6))
def test_any_text_at_all_scores_within_bounds(texts):
    scores = self_bleu(texts)
    assert scores.shape == (len(texts),)
    assert ((scores >= 0) & (scores <= 1 + 1e-12)).all()


@settings(max_examples=50, deadline=None)
@given(st.permutations(["a b c d e", "a b c d f", "x y", "a b", "b c d e"]))
def test_the_order_of_texts_does_not_matter(texts):
    assert dict(zip(texts, self_bleu(texts), strict=True)) == dict(
        zip(sorted(texts), self_bleu(sorted(texts)), strict=True)
    )


def test_many_texts_in_blocks_equal_sacrebleu():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choice(words, rng.integers(1, 15))) + "." for _ in range(300)]
    ours = self_bleu(texts)
    picked = range(0, 300, 37)
    bleu = BLEU(effective_order=True)
    reference = [
        bleu.sentence_score(texts[i], texts[:i] + texts[i + 1 :]).score / 100 for i in picked
    ]
    np.testing.assert_allclose(ours[list(picked)], reference, rtol=0, atol=1e-9)


def test_identical_texts_are_all_alike_and_strangers_are_not():
    np.testing.assert_allclose(self_bleu(["one two three four five"] * 3), 1.0)
    assert self_bleu(["a b c", "d e f"]).tolist() == [0.0, 0.0]


def test_one_text_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        self_bleu(["alone"])


def test_an_unknown_tokenizer_is_named():
    with pytest.raises(UserError, match="klingon"):
        self_bleu(["a", "b"], tokenize="klingon")
