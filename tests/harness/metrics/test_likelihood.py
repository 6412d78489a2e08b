"""Metrics of log-probabilities: perplexity, reference NLL, multiple choice, stereotypes."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.multiple_choice import choose, right_choice
from harness.metrics.perplexity import perplexity, rolling_windows, text_likelihood
from harness.metrics.reference_nll import reference_nll
from harness.metrics.stereotype_preference import group_gap, stereotype_preference

LOGPROBS = st.lists(st.floats(-20, 0), min_size=1, max_size=30)


def item(kind, logprobs, *, text="some text", references=(), **fields):
    sample = Sample("s", "t", text=text, references=tuple(references), fields=fields)
    return MetricItem(
        sample,
        tuple(
            Response("k", "s", "t", kind, index, 0, text, logprobs=one)
            for index, one in enumerate(logprobs)
        ),
    )


def described_windows(tokens, max_length, prefix, context):
    """The same windows told otherwise: which positions each predicts, then what it may see."""
    line = [prefix, *tokens]
    ends = [min(max_length, len(tokens))] if tokens else []
    while ends and ends[-1] < len(tokens):
        ends.append(min(ends[-1] + max_length - context + 1, len(tokens)))
    begins = [0, *ends][: len(ends)]
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        # line[i] stands before the i-th token; the model reads line[...:end] to predict up to end.
        reads = line[:end] if number == 0 else line[end - max_length : end]
        predicted = end - begin
        yield tuple(reads[: len(reads) - predicted + 1]), tuple(tokens[begin:end])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_windows_predict_every_token_once_with_as_much_context_as_fits(n, max_length, data):
    context = data.draw(st.integers(1, max_length))
    tokens = list(range(100, 100 + n))
    windows = list(rolling_windows(tokens, max_length, 7, context))
    assert windows == list(described_windows(tokens, max_length, 7, context))
    assert [token for _, targets in windows for token in targets] == tokens
    for number, (seen, targets) in enumerate(windows):
        assert len(seen) + len(targets) <= max_length + 1
        if number:
            assert len(seen) + len(targets) == max_length + 1
            assert len(seen) >= context


def test_windows_by_hand():
    assert list(rolling_windows([1, 2, 3, 4, 5], 2, 0)) == [
        ((0,), (1, 2)),
        ((2,), (3, 4)),
        ((3, 4), (5,)),
    ]
    assert list(rolling_windows([], 2, 0)) == []
    with pytest.raises(ValueError, match="context"):
        list(rolling_windows([1], 2, 0, context=3))


@settings(max_examples=100, deadline=None)
@given(LOGPROBS, LOGPROBS)
def test_perplexity_adds_over_documents_and_parts(left, right):
    one, two = text_likelihood("a b", left), text_likelihood("c", right)
    both = perplexity([("a b", left), ("c", right)])
    assert both.nll == pytest.approx(one.nll + two.nll)
    assert (both.tokens, both.words, both.bytes) == (len(left) + len(right), 3, 4)
    mean = statistics.fmean([*left, *right])
    assert both.per_token == pytest.approx(math.exp(-mean), rel=1e-12)
    assert text_likelihood("x", [*left, *right]).nll == pytest.approx(both.nll)
    assert both.per_token >= 1 - 1e-12


def test_perplexity_in_its_three_units():
    found = text_likelihood("two words", [-math.log(2.0)] * 9)
    assert found.per_token == pytest.approx(2.0)
    assert found.per_word == pytest.approx(2.0**4.5)
    assert found.bits_per_byte == pytest.approx(1.0)
    assert text_likelihood("你\ud800", [-1.0]).bytes == 6


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    assert text_likelihood("x", [-math.log(50257)] * 13).per_token == pytest.approx(50257)


def test_perplexity_evidence():
    metric = get_metric("perplexity")
    scored, empty, missing, impossible, improbable = (
        row[0]
        for row in metric.score(
            [
                item("text", [(-1.0, -3.0)], text="a b c"),
                item("text", [()], text=""),
                item("text", [None]),
                item("text", [(-math.inf,)]),
                item("text", [(-1000.0,)]),
            ]
        )
    )
    assert scored.value == pytest.approx(math.exp(2.0))
    assert scored.stats == (4.0, 2.0, 3.0, 5.0)
    assert empty.outcome is ScoreOutcome.UNSCORED
    for wrong in (missing, impossible):
        assert wrong.outcome is ScoreOutcome.ERROR
        assert wrong.value is None
    # exp(1000) is no float, and yet this is the worst of models rather than one without a value.
    assert improbable.value == pytest.approx(math.exp(700))
    assert improbable.stats == (1000.0, 1.0, 2.0, 9.0)
    assert metric.spec.form == "perplexity"


def test_reference_nll():
    assert reference_nll([-1.0, -2.0]) == 1.5
    assert math.copysign(1.0, reference_nll([0.0])) == 1.0
    (evidence,) = get_metric("reference_nll").score([item("reference", [(-1.0, -2.0)])])[0]
    assert (evidence.value, evidence.stats) == (1.5, (3.0, 2.0))
    with pytest.raises(ValueError, match="no token"):
        reference_nll([])


def test_the_likeliest_choice_by_each_length():
    logprobs, choices = [[-1.0, -1.0], [-0.9], [-6.0]], ["ab", "c", "d" * 60]
    assert choose(logprobs, choices, normalize="none") == 1
    assert choose(logprobs, choices, normalize="tokens") == 1
    assert choose(logprobs, choices, normalize="bytes") == 2
    assert choose([[-2.0], [-2.0]], ["你", "abc"], normalize="bytes") == 0
    assert choose([[-2.0], [-2.0]], ["你", "abc"], normalize="characters") == 1
    with pytest.raises(UserError, match="empty"):
        choose([[-1.0], []], ["a", "b"])


def test_the_right_choice_by_number_letter_or_text():
    choices = ["Paris", "Rome", "北京"]
    named = [right_choice(x, choices) for x in (2, "B", "b.", "rome", "北京。", "1", 7, "E", None)]
    assert named == [2, 1, 1, 1, 2, 1, None, None, None]


def test_multiple_choice_evidence():
    metric = get_metric("multiple_choice")
    logprobs, references = [(-1.0,), (-5.0,)], ["yes", "no!"]
    rows = metric.score(
        [
            item("reference", logprobs, references=references, answer="A"),
            item("reference", logprobs, references=references, answer=1),
            item("reference", logprobs, references=references, answer="?"),
            item("reference", logprobs[:1], references=references, answer=0),
        ]
    )
    assert [row[0].value for row in rows] == [1.0, 0.0, None, None]


def test_stereotype_preference():
    assert stereotype_preference([-1.0, -1.0], [-1.5]) == 0.0
    assert stereotype_preference([-1.0, -1.0], [-1.5], normalize=True) == 1.0
    assert stereotype_preference([-1.0], [-1.0]) == 0.5
    metric = get_metric("stereotype_preference")
    (evidence,) = metric.score([item("reference", [(-1.0,), (-2.0,)], references=["a", "b"])])[0]
    assert evidence.value == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("xyz")), min_size=2))
def test_the_gap_between_groups(pairs):
    values, groups = zip(*pairs, strict=True)
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="two groups"):
            group_gap(values, groups)
        return
    found = group_gap(values, groups)
    assert found.gap == pytest.approx(max(found.means.values()) - min(found.means.values()))
    assert found.gap >= 0
