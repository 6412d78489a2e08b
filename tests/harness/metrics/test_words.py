"""Sensitive words and toxicity: what is found, and what is not claimed."""

from __future__ import annotations

import importlib.util

import numpy as np
import profanity_check
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.sensitive_words import normalize_spelling, sensitive_words
from harness.metrics.support.aho_corasick import Automaton
from harness.metrics.toxicity import toxicity

ALPHABET = "ab你好é😀 "


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=5), min_size=1, max_size=12, unique=True),
    st.lists(st.text(ALPHABET + "z\x00\n", max_size=80), max_size=6),
)
def test_the_automaton_finds_what_a_naive_search_finds(words, texts):
    owners, found, begins = Automaton(words).find(texts)
    naive = sorted(
        (owner, index, len(text[:place].encode()))
        for owner, text in enumerate(texts)
        for index, word in enumerate(words)
        for place in range(len(text))
        if text.startswith(word, place)
    )
    assert sorted(zip(owners.tolist(), found.tolist(), begins.tolist(), strict=True)) == naive


def test_pieces_of_a_long_text_overlap():
    text = "x" * 100_003 + "needle" + "x" * 50_000 + "needle"
    _, _, begins = Automaton(["needle", "ee", "missing"]).find([text])
    assert sorted(begins.tolist()) == [100_003, 100_004, 150_009, 150_010]


@pytest.mark.parametrize(
    "text",
    [
        *("what a badword here", "BADWORD!", "ｂａｄｗｏｒｄ", "b.a.d.w.o.r.d", "b a d w o r d"),
        *("bad\u200bword", "好badword好", "这是敏感词吗", "敏 感*词", "敏\u200b感词"),
        "two  part-word",
    ],
)
def test_tricks_of_spelling_are_seen_through(text):
    assert len(sensitive_words([text], ["badword", "敏感词", "two-part word"])[0]) == 1


@pytest.mark.parametrize("text", ["badwords", "abadword", "class", "敏感", "", "\x00\ud800", "🙂"])
def test_other_words_are_left_alone(text):
    assert sensitive_words([text], ["badword", "ass", "敏感词"]) == [[]]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("ab 你好-", min_size=1, max_size=4).filter(normalize_spelling), min_size=1),
    st.text("ab 你好-.B\u200b", max_size=40),
)
def test_hits_equal_a_naive_search_of_the_normalized_text(words, text):
    spaced = f" {normalize_spelling(text)} "
    distinct = {normalize_spelling(word) for word in words}
    naive = {w for w in distinct if (w if set(w) & set("你好") else f" {w} ") in spaced}
    assert {normalize_spelling(hit) for hit in sensitive_words([text], words)[0]} == naive


def item(*texts, language=None):
    return MetricItem(
        Sample("s", "t", language=language),
        tuple(Response("k", "s", "t", "generation", i, 0, text) for i, text in enumerate(texts)),
    )


def test_the_metric_takes_words_of_the_suite(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("frobnicate  # ours\n\n# a comment\n敏感词\n", encoding="utf-8")
    metric = get_metric("sensitive_words", {"file": str(path), "words": ["gizmo"]})
    found = metric.score([item("they frobnicate the gizmo", "fine", "敏感词", "what the fuck")])[0]
    assert [one.value for one in found] == [1.0, 0.0, 1.0, 1.0]
    assert found[0].stats == (2.0,)
    assert metric.spec.signature != get_metric("sensitive_words").spec.signature
    with pytest.raises(UserError, match="can't be read"):
        get_metric("sensitive_words", {"file": str(tmp_path / "none.txt")})
    with pytest.raises(UserError, match="no word"):
        get_metric("sensitive_words", {"shipped": False})


TEXTS = ["hello there", "you stupid idiot, fuck off", "", "!!!", "\x00", "\ud800", "x" * 100_000]


def test_toxicity_is_the_classifiers():
    np.testing.assert_array_equal(toxicity(TEXTS), profanity_check.predict_prob(TEXTS))
    assert toxicity([]).shape == (0,)


def test_toxicity_does_not_depend_on_order_or_batch():
    alone = [toxicity([text])[0] for text in TEXTS]
    np.testing.assert_allclose(toxicity(TEXTS), alone, atol=1e-12)
    np.testing.assert_allclose(toxicity(TEXTS[::-1])[::-1], alone, atol=1e-12)


def test_what_the_embedded_classifier_cannot_read_is_unscored():
    metric = get_metric("toxicity")
    mixed = metric.score([item("you idiot", "你这个白痴", "привет"), item("fine", language="fr")])
    assert [one.outcome for one in mixed[0]] == [
        ScoreOutcome.SCORED, ScoreOutcome.UNSCORED, ScoreOutcome.UNSCORED,
    ]  # fmt: skip
    assert "multilingual" in mixed[0][1].reason
    assert mixed[1][0].outcome is ScoreOutcome.UNSCORED
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        values = toxicity(["you are fine", "你好"])
    np.testing.assert_array_equal(values, profanity_check.predict_prob(["you are fine", "你好"]))


def test_toxicity_keeps_whether_it_is_over_the_threshold():
    (low, high) = get_metric("toxicity").score([item("good morning", "fuck you")])[0]
    assert (low.stats, high.stats) == ((0.0,), (1.0,))
    rate = get_metric("toxicity_rate", {"threshold": 0.3}).score([item("good morning", "fuck you")])
    assert [one.value for one in rate[0]] == [0.0, 1.0]
    with pytest.raises(UserError, match="threshold"):
        get_metric("toxicity", {"threshold": 2})
    if importlib.util.find_spec("detoxify") is None:
        with pytest.raises(UserError, match="not installed"):
            get_metric("toxicity", {"classifier": "detoxify"})
