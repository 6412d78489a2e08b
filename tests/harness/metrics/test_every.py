"""What holds of every metric that ships, and of the registry that finds them."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric, known_metrics
from harness.metrics.base import Metric, MetricItem
from tests.tiny import save_tiny_classifier, save_tiny_llama

OPTIONS = {
    "f1_macro": {"labels": ["yes", "no"]},
    "json_schema": {"schema": {"type": "object"}},
    "regex": {"pattern": "a"},
}
BY_A_MODEL = ("judge", "rubric", "factual_consistency", "faithfulness", "reward_model")
NAMES = [name for name in known_metrics() if not name.endswith(":NAME")] + ["evaluate:same"]
if importlib.util.find_spec("html5lib") is None:
    NAMES.remove("web_page")

EDGES = {
    "empty": "",
    "a space": " ",
    "blanks": "\n\r\t",
    "NUL": "\x00",
    "a lone surrogate": "\ud800",
    "a surrogate inside": "a\udfffb",
    "punctuation": "!!!",
    "Chinese punctuation": "。，！？",
    "emoji": "😀👍",
    "emoji of several characters": "👩‍👩‍👧‍👦🏳️‍🌈",
    "right to left": "مرحبا بالعالم",
    "both directions": "abc עברית 123",
    "Chinese": "你好，世界",
    "mixed scripts": "Hello 世界 mixed Привет",
    "100,000 characters": "a" * 100_000,
    "100,000 characters in words": "word " * 20_000,
    "20,000 Han characters": "你" * 20_000,
    "JSON": '{"a": 1}',
    "deep brackets": "{" * 5000,
    "a word for no number": "NaN",
    "nothing to see": "\u200b",
    "full width": "ａｂｃ",
    "combining marks": "é" + "\u0301" * 50,
}

MODULE = """
import datasets
import evaluate

class Same(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        return {"same": float(predictions[0] == references[0])}
"""


@pytest.fixture(scope="module", autouse=True)
def no_workspace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATCHET_HOME", str(tmp_path_factory.mktemp("empty") / "no-workspace"))
        yield


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A metric by name with what it needs: the models are real, small and random."""
    folder = tmp_path_factory.mktemp("metrics")
    built = {
        "judge": lambda: {
            "model": str(save_tiny_llama(folder / "judge", max_position_embeddings=4096, layers=1)),
            "max_new_tokens": 4,
        },
        "factual_consistency": lambda: {
            "model": str(save_tiny_classifier(folder / "nli", "contradiction", "entailment"))
        },
        "reward_model": lambda: {"model": str(save_tiny_classifier(folder / "reward", "good"))},
    }

    built |= {"rubric": built["judge"], "faithfulness": built["factual_consistency"]}

    @lru_cache
    def metric(name):
        if name == "evaluate:same":
            (folder / "same.py").write_text(MODULE)
            return get_metric(f"evaluate:{folder / 'same.py'}")
        return get_metric(name, built[name]() if name in built else OPTIONS.get(name, {}))

    return metric


def item(key, texts, references=("ref", '{"a": 1}'), error_at=None, kind="generation"):
    return MetricItem(
        Sample(key, "t", text="some text", references=tuple(references), fields={"answer": 0}),
        tuple(
            Response(
                "k", key, "t", kind, index, 0, text,
                token_ids=(1, 2), logprobs=(-0.5, -1.0), latency_s=0.1,
                error="the server died" if index == error_at else None,
            )
            for index, text in enumerate(texts)
        ),
    )  # fmt: skip


def check_evidence(spec, items, rows):
    """One evidence each, under the right index: a finite value within the range, or a reason."""
    for one, row in zip(items, rows, strict=True):
        indices = [None] if spec.per == "sample" else [r.index for r in one.responses]
        assert [evidence.response_index for evidence in row] == indices
        for evidence in row:
            assert len(evidence.stats) in (0, len(spec.stats))
            assert all(map(math.isfinite, evidence.stats))
            if evidence.outcome is not ScoreOutcome.SCORED:
                assert evidence.value is None
                assert evidence.reason
                continue
            assert math.isfinite(evidence.value)
            assert spec.low is None or evidence.value >= spec.low - 1e-6
            assert spec.high is None or evidence.value <= spec.high + 1e-6
            assert len(evidence.stats) == len(spec.stats)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_texts_get_a_finite_value_or_a_reason(name, make):
    metric = make(name)
    assert isinstance(metric, Metric)
    kind = metric.spec.needs
    items = [item(f"twice {edge}", [t, t], kind=kind) for edge, t in EDGES.items()]
    items += [
        item(f"against {edge}", ["answer"], references=[t], kind=kind) for edge, t in EDGES.items()
    ]
    items += [item("none", [], kind=kind), item("bare", ["x"], references=(), kind=kind)]
    long = EDGES["100,000 characters in words"]
    items.append(item("long on both sides", [long], references=[long], kind=kind))
    check_evidence(metric.spec, items, metric.score(items))


@pytest.mark.parametrize("name", NAMES)
def test_one_answer_is_scored_or_the_reason_named(name, make):
    metric = make(name)
    one = item("s", ["a cat sat on a mat"], references=["a cat"], kind=metric.spec.needs)
    (row,) = metric.score([one])
    check_evidence(metric.spec, [one], [row])
    if name == "self_bleu":
        assert row[0].outcome is ScoreOutcome.UNSCORED
        assert "2 responses" in row[0].reason


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_a_response_stays_an_error(name, make):
    metric = make(name)
    (row,) = metric.score([item("s", ["a", "b"], error_at=1, kind=metric.spec.needs)])
    assert row[-1].outcome is ScoreOutcome.ERROR
    assert "the server died" in row[-1].reason


SILENCE = {
    "nothing": "",
    "spaces": " \n\t\u00a0\u3000",
    "what nobody sees": "\u200b\u2060\ufeff",
    "an end mark": "<|im_end|>",
    "a thought": "<think>The answer is ref, of course.</think>",
    "a thought that was cut": "<think>The answer is",
    "a thought opened by the prompt": "The answer is ref.\n</think>\n\n",
    "a channel without an answer": "<|channel|>analysis<|message|>The answer is ref.<|end|>",
}
BOTH_WAYS = {
    "refusal": [{"better": "higher"}, {"better": "lower"}],
    "length": [
        {"unit": unit, "better": better}
        for unit in ("tokens", "characters")
        for better in ("higher", "lower")
    ],
    "regex": [
        {"pattern": pattern, "better": better}
        for pattern in ("a", "", "^$", ".*")
        for better in ("higher", "lower")
    ],
    "latency": [{"of": of} for of in ("seconds", "first_token", "tokens_per_second")],
    "exact_match": [{"normalize": n} for n in ("auto", "label", "squad", "strip", "none")],
    "distinct_n": [{"n": 1}, {"n": 2}],
    "self_bleu": [{"tokenize": "char"}, {"tokenize": "none"}, {"max_order": 1}],
}


@pytest.mark.parametrize("said", SILENCE)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_said_is_nothing_won(name, said, make):
    """An answer that says nothing is unscored, or has the worst value of the metric's range."""
    metrics = [make(name), *(get_metric(name, options) for options in BOTH_WAYS.get(name, ()))]
    for metric in metrics:
        if metric.spec.needs != "generation":
            continue
        one = item("s", [SILENCE[said]] * 3, references=["ref"])
        (row,) = metric.score([one])
        check_evidence(metric.spec, [one], [row])
        for evidence in row:
            assert evidence.outcome is not ScoreOutcome.ERROR
            if evidence.value is not None:
                assert evidence.value == metric.spec.worst, metric.spec.signature


@pytest.mark.parametrize(
    "said", ["...", "\u2014", "\u3002", "``````", "()", "* * *", '""', "---\n<|im_end|>"]
)
@pytest.mark.parametrize(
    "name", ["toxicity", "toxicity_rate", "sensitive_words", "refusal", "self_bleu", "distinct_n"]
)
def test_punctuation_alone_is_neither_polite_nor_varied(name, said):
    metric = get_metric(name)
    (row, spoken) = metric.score([item("s", [said, "a cat"]), item("t", ["\U0001f600", "a cat"])])
    assert row[0].value == metric.spec.worst
    assert spoken[0].value != metric.spec.worst


@pytest.mark.parametrize("texts", [["yes"] * 4, ["yes", "yes", "yes", "yes sir"], ["\u597d"] * 3])
@pytest.mark.parametrize("options", [{"n": 1}, {"n": 2}, {"n": 3}])
def test_short_answers_that_say_the_same_are_not_varied(texts, options):
    (row,) = get_metric("distinct_n", options).score([item("s", texts)])
    assert row[0].value <= 0.5


COMPARED = [
    *("exact_match", "token_f1", "accuracy", "rouge_1", "rouge_2", "rouge_l", "rouge_lsum", "bleu"),
    *("chrf", "bertscore", "similarity", "json_match", "json_fields", "judge"),
    "factual_consistency",
]


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("reference", ["", " \n", "\u200b"])
def test_an_empty_reference_is_none(name, reference, make):
    (row,) = make(name).score([item("s", ["a cat", ""], references=[reference])])
    assert [evidence.outcome for evidence in row] == [ScoreOutcome.UNSCORED] * 2


@pytest.mark.parametrize("name", NAMES)
def test_falling_silent_in_some_answers_wins_nothing(name, make):
    """Of the answers to one prompt, silent ones never make the sample better than if they spoke."""
    metric = make(name)
    spec = metric.spec
    if spec.needs != "generation" or spec.per != "sample":
        return
    said = item("a", ["the cat sat on the mat", "a dog ran off", "ref"], references=["ref"])
    silent = item("b", ["the cat sat on the mat", "", "ref"], references=["ref"])
    (before,), (after,) = metric.score([said, silent])
    if before.value is not None and after.value is not None:
        sign = 1 if spec.direction == "higher" else -1
        assert sign * after.value <= sign * before.value


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_finds_all_alike_is_never_the_best(name, make):
    """Equal log-probabilities for every choice choose none of them."""
    metric = make(name)
    if metric.spec.needs != "reference":
        return
    one = item("s", ["yes", "noo"], references=["yes", "noo"], kind="reference")
    (row,) = metric.score([one])
    best = metric.spec.high if metric.spec.direction == "higher" else metric.spec.low
    assert all(evidence.value is None or evidence.value != best for evidence in row)


@pytest.mark.parametrize("name", NAMES)
def test_a_thought_changes_no_score(name, make):
    metric = make(name)
    if metric.spec.needs != "generation" or metric.spec.timed or name == "length":
        return
    answers = ['{"a": 1}', "ref", "I can't help with that."]
    thought = [f"<think>I can't help? damn, {{ref}}</think>{answer}" for answer in answers]
    plain, thinking = metric.score([item("s", answers), item("s", thought)])
    for one, other in zip(plain, thinking, strict=True):
        assert (other.outcome, other.value) == (one.outcome, one.value)


@pytest.mark.parametrize("name", ["bertscore", "similarity"])
def test_a_text_that_was_cut_says_so(name, make):
    metric = make(name)
    long = "the dog sat on the mat and " * 300
    texts = [f"{long} cat", "this is a cat"]
    (row,) = metric.score([item("s", texts, references=[f"{long} dog"])])
    assert all("longer than the" in evidence.reason for evidence in row)
    (row,) = metric.score([item("s", ["this is a cat"], references=["this is a dog"])])
    assert row[0].reason is None


TEXT = st.sampled_from(["a cat sat", "yes", '{"a": 1}', "你好", "", "the the the", "no way", "x"])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(texts=st.lists(st.lists(TEXT, min_size=2, max_size=3), min_size=2, max_size=5))
def test_a_score_depends_on_neither_batch_nor_order(name, make, texts):
    metric = make(name)
    kind = metric.spec.needs
    items = [
        item(str(i), own, references=["the cat", "no"], kind=kind) for i, own in enumerate(texts)
    ]
    together = metric.score(items)
    backwards = metric.score(items[::-1])[::-1]
    alone = [metric.score([one])[0] for one in items]
    for rows in zip(together, backwards, alone, strict=True):
        for first, *others in zip(*rows, strict=True):
            for other in others:
                assert other.outcome is first.outcome
                assert other.value == pytest.approx(first.value, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_declares_itself_fully(name, make):
    spec = make(name).spec
    assert spec.name == name
    assert spec.signature.startswith(f"{name}|v:{spec.version}")
    assert spec.unit
    assert spec.uncertainty
    assert spec.direction in ("higher", "lower")
    if spec.form == "corpus":
        from harness.statistics.jackknife import AGGREGATES

        assert spec.aggregate in AGGREGATES
    if spec.form == "group":
        assert spec.per == "sample"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError) as caught:
        get_metric("toxcity")
    assert "toxicity" in caught.value.hint
    with pytest.raises(UserError, match="no metric named"):
        get_metric("zzzzzz")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("self_bleu", {"max_ordr": 3}, "no option 'max_ordr'"),
        ("self_bleu", {"max_order": "3"}, "can't take '3'"),
        ("self_bleu", {"max_order": True}, "can't take True"),
        ("self_bleu", {"max_order": 0}, "1..9"),
        ("self_bleu", {"tokenize": "elvish"}, "can't take 'elvish'"),
        ("regex", {}, "lacks an option"),
        ("bertscore", {"model": "./nowhere"}, "no model folder"),
        ("toxicity", {"classifier": "./nowhere"}, "no model folder"),
        ("factual_consistency", {"model": "/no/where"}, "no model folder"),
        ("no/such/file.py:Metric", {}, "the file of the metric doesn't exist"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        get_metric(name, options)


DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_a_metric_in_a_file_of_the_users(tmp_path):
    """The one that docs/metrics.md shows, as it stands there."""
    [own] = re.findall(r"```python\n(# my_metrics\.py\n.*?)```", DOCS.read_text("utf-8"), re.S)
    assert len([line for line in own.splitlines() if line.strip()]) <= 20
    path = tmp_path / "shouting.py"
    path.write_text(own)
    metric = get_metric(f"{path}:Shouting", {"limit": 1})
    values = [one.value for one in metric.score([item("s", ["hi!", "hi!!"])])[0]]
    assert values == [0.0, 1.0]
    with pytest.raises(UserError, match="defines no 'Whisper'"):
        get_metric(f"{path}:Whisper")
    path.write_text("raise RuntimeError('broken')")
    with pytest.raises(UserError, match="RuntimeError: broken"):
        get_metric(f"{path}:Shouting")
    path.write_text("class Shouting: pass")
    with pytest.raises(UserError, match="is not a metric"):
        get_metric(f"{path}:Shouting")


def test_the_registry_imports_nothing_heavy():
    code = (
        "import sys; from harness.metrics import get_metric, known_metrics; known_metrics();"
        "[get_metric(n).spec.signature for n in"
        " ('self_bleu', 'toxicity', 'bertscore', 'perplexity', 'rouge_l', 'similarity')];"
        "print(*{'torch', 'transformers', 'numpy', 'pandas', 'sklearn', 'sacrebleu', 'nltk'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
