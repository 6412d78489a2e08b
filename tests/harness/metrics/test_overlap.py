"""ROUGE against rouge-score on English, and what it does for Chinese; BLEU and chrF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.bleu import bleu, chrf
from harness.metrics.rouge import rouge, tokenize
from harness.statistics.jackknife import bleu as pooled_bleu

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
STOCK = {stem: rouge_scorer.RougeScorer(list(KINDS), use_stemmer=stem) for stem in (False, True)}
ENGLISH_WORDS = (
    *("the", "a", "cat", "dogs", "sat", "running", "café", "U.S.", "3.14", "don't", "nation"),
    *("is", "\n", "\n"),
)
ENGLISH = st.lists(st.sampled_from(ENGLISH_WORDS), max_size=20).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(ENGLISH, min_size=1, max_size=3), ENGLISH, st.booleans())
def test_equals_rouge_score_on_english(references, answer, stem):
    stock = STOCK[stem].score_multi(references, answer)
    for kind in KINDS:
        ours = rouge(answer, references, kind=kind, stem=stem)
        assert ours == pytest.approx(tuple(stock[kind]), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(max_codepoint=0x7F), max_size=60))
def test_tokens_of_ascii_are_rouge_scores(text):
    from rouge_score.tokenize import tokenize as stock

    assert tokenize(text) == stock(text, None)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(KINDS))
def test_rouge_is_bounded_and_swaps_its_sides(left, right, kind):
    here, there = rouge(left, right, kind=kind), rouge(right, left, kind=kind)
    assert 0.0 <= here.f1 <= 1.0
    if kind != "rougeLsum":
        assert (here.precision, here.recall) == (there.recall, there.precision)


def test_chinese_is_not_thrown_away():
    assert tokenize("我爱Python 3！") == ["我", "爱", "python", "3"]
    assert rouge("今天天气很好", "今天天气不好", kind="rougeL").f1 == pytest.approx(5 / 6)
    assert rouge("你好", "你好", kind="rouge2").f1 == 1.0
    assert rouge("привет мир", "привет всем", kind="rouge1").f1 == pytest.approx(0.5)


def test_answers_of_a_hundred_thousand_characters():
    long = "ab cd " * 17_000
    assert rouge(long, long, kind="rougeL").f1 == 1.0
    assert rouge(long, long + "ef", kind="rougeL").recall == pytest.approx(34_000 / 34_001)


SENTENCES = ["the cat sat on the mat.", "hello world, again", "", "3.14 is not 10-20"]
REFERENCES = [["a cat sat on the mat", "the cat is on the mat."], ["hello world"], ["x"], ["3.14"]]


def test_corpus_bleu_and_chrf_are_sacrebleus():
    streams = [[g[i] if i < len(g) else None for g in REFERENCES] for i in range(2)]
    expected = BLEU().corpus_score(SENTENCES, streams)
    assert bleu(SENTENCES, REFERENCES).score == pytest.approx(expected.score, abs=1e-12)
    assert "tok:13a" in bleu(SENTENCES, REFERENCES).signature
    expected = CHRF(word_order=2).corpus_score(SENTENCES, streams)
    assert chrf(SENTENCES, REFERENCES, word_order=2).score == pytest.approx(expected.score)


def test_bleu_evidence_adds_up_to_corpus_bleu():
    items = [
        MetricItem(
            Sample(str(i), "t", references=tuple(references)),
            (Response("k", str(i), "t", "generation", 0, 0, text),),
        )
        for i, (text, references) in enumerate(zip(SENTENCES, REFERENCES, strict=True))
    ]
    evidence = [row[0] for row in get_metric("bleu").score(items)]
    pooled = pooled_bleu(np.sum([one.stats for one in evidence], axis=0))
    assert pooled == pytest.approx(bleu(SENTENCES, REFERENCES).score, abs=1e-9)


def test_bleu_takes_the_tokenizer_of_the_language():
    item = MetricItem(
        Sample("1", "t", references=("今天天气很好啊",)),
        (Response("k", "1", "t", "generation", 0, 0, "今天天气很好"),),
    )
    value = get_metric("bleu").score([item])[0][0].value
    zh = BLEU(tokenize="zh", effective_order=True)
    assert value == zh.sentence_score("今天天气很好", ["今天天气很好啊"]).score


def test_lengths_that_differ_are_refused():
    with pytest.raises(UserError, match="2 candidates, but references for 1"):
        bleu(["a", "b"], ["a"])
