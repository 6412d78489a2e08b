"""Metrics with a model or a parser inside: similarity, entailment, evaluate, web pages."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.latency import latency
from harness.metrics.similarity import embed, entailment, similarity
from harness.metrics.support.encoders import embedded_encoder
from harness.metrics.toxicity import toxicity
from harness.metrics.web_page import check_page
from tests.harness.metrics.item_builders import item
from tests.tiny import save_tiny_classifier

pytestmark = pytest.mark.usefixtures("no_workspace")
TEXTS = ["a cat sat on the mat", "the stock market fell", "", "\ud800 \x00", "word " * 20_000, "!"]


def test_embeddings_are_those_of_sentence_transformers():
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(embedded_encoder()), device="cpu")
    theirs = model.encode(TEXTS[:3], normalize_embeddings=True)
    np.testing.assert_allclose(embed(TEXTS[:3]), theirs, atol=1e-5)


def test_embeddings_do_not_depend_on_the_batch():
    together = embed(TEXTS)
    alone = np.concatenate([embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


def test_similarity_is_symmetric_and_knows_what_is_near():
    here = similarity(TEXTS, TEXTS[::-1])
    np.testing.assert_allclose(here, similarity(TEXTS[::-1], TEXTS), atol=1e-6)
    near, far = similarity(["a cat sat on the mat"] * 2, ["the cat is on a mat", TEXTS[1]])
    assert near > 0.7 > 0.3 > far
    metric = get_metric("similarity")
    best, unread, bare = (
        row[0]
        for row in metric.score(
            [
                item("a cat sat", references=["stocks fell", "a cat sat"]),
                item("猫坐着", references=["猫坐着"]),
                item("a cat"),
            ]
        )
    )
    assert best.value == pytest.approx(1.0, abs=1e-6)
    assert unread.outcome is bare.outcome is ScoreOutcome.UNSCORED
    assert metric.spec.scale == "interval"


@pytest.fixture
def classifier(tmp_path):
    def make(*labels, **overrides):
        folder = tmp_path / f"{'-'.join(labels)}{'-'.join(overrides)}"
        return str(save_tiny_classifier(folder, *labels, **overrides))

    return make


def test_a_classifier_by_path_is_called_directly(classifier):
    from transformers import pipeline

    folder = classifier("neutral", "toxic")
    texts = ["a cat", "something else entirely", "你好", "x " * 30]
    pipe = pipeline("text-classification", model=folder, top_k=None, device="cpu")
    theirs = [
        next(label["score"] for label in labels if label["label"] == "toxic")
        for labels in pipe(texts)
    ]
    np.testing.assert_allclose(toxicity(texts, classifier=folder), theirs, atol=1e-5)
    assert toxicity(["x " * 5000, "\ud800"], classifier=folder).shape == (2,)
    (evidence,) = get_metric("toxicity", {"classifier": folder}).score([item("你好")])[0]
    assert evidence.outcome is ScoreOutcome.SCORED
    signature = get_metric("toxicity", {"classifier": folder}).spec.signature
    assert "neutral-toxic@" in signature
    assert folder not in signature
    with pytest.raises(UserError, match="none is toxic"):
        toxicity(["x"], classifier=classifier("happy", "sad"))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (("toxicity", "severe_toxicity", "obscene"), "multi_label_classification"),
        (("toxic",), None),
        (("LABEL_0", "LABEL_1"), None),
    ],
    ids=["many labels at once", "one output", "unnamed"],
)
def test_classifiers_of_every_kind_are_called_directly(classifier, labels, problem):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier(*labels, problem_type=problem)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = ["a cat", "something else entirely", "the end"]
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    sigmoid = problem is not None or len(labels) == 1
    place = 1 if labels[-1] == "LABEL_1" else 0
    expected = [(x.sigmoid() if sigmoid else x.softmax(-1))[place].item() for x in logits]
    np.testing.assert_allclose(toxicity(texts, classifier=folder), expected, atol=1e-6)


def test_a_classifier_does_not_depend_on_the_batch(classifier):
    folder = classifier("neutral", "toxic")
    texts = ["a cat", "x " * 40, "", "你好", "word " * 20]
    together = toxicity(texts, classifier=folder)
    alone = [toxicity([text], classifier=folder)[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_rate_is_the_share_over_the_threshold(classifier):
    folder = classifier("neutral", "toxic")
    texts = ["a cat", "something else entirely", "你好", "the end"]
    values = toxicity(texts, classifier=folder)
    options = {"classifier": folder, "threshold": float(np.median(values))}
    (row,) = get_metric("toxicity_rate", options).score([item(*texts)])
    assert [one.value for one in row] == (values >= options["threshold"]).astype(float).tolist()
    (row,) = get_metric("toxicity", options).score([item(*texts)])
    assert [one.stats[0] for one in row] == (values >= options["threshold"]).astype(float).tolist()


@pytest.mark.skipif(importlib.util.find_spec("detoxify") is not None, reason="it is installed")
def test_detoxify_says_what_to_install():
    for use in (
        lambda: get_metric("toxicity", {"classifier": "detoxify"}),
        lambda: get_metric("toxicity_rate", {"classifier": "detoxify:multilingual"}),
        lambda: toxicity(["x"], classifier="detoxify"),
    ):
        with pytest.raises(UserError, match="detoxify") as caught:
            use()
        assert caught.value.hint == "pip install detoxify"


def test_entailment_reads_the_reference_first(classifier):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier("contradiction", "neutral", "entailment")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**tokenizer("it rains", "it is wet", return_tensors="pt")).logits
    expected = logits.softmax(-1)[0, 2].item()
    assert entailment(["it is wet"], ["it rains"], model=folder)[0] == pytest.approx(
        expected, abs=1e-6
    )
    metric = get_metric("factual_consistency", {"model": folder})
    (evidence,) = metric.score([item("it is wet", references=["it rains"])])[0]
    assert evidence.value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "pair", [("the cat " * 200, "a dog " * 300), ("it rains", "so " * 500), ("x" * 900, "it rains")]
)
def test_a_pair_that_is_too_long_is_cut_as_its_tokenizer_would(classifier, pair):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier("contradiction", "entailment")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = tokenizer(*pair, truncation=True, max_length=64, return_tensors="pt")
        expected = model(**inputs).logits.softmax(-1)[0, 1].item()
    found = entailment([pair[1]], [pair[0]], model=folder)[0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_two_very_long_texts_are_compared(classifier):
    """Left to its tokenizer alone, this pair took all memory."""
    folder = classifier("contradiction", "entailment")
    assert 0 <= entailment(["word " * 20_000], ["other " * 20_000], model=folder)[0] <= 1


GOOD = """<!DOCTYPE html><html lang="en"><head><title>T</title>
<style>a { color: red } @media print { b { margin: 0 } }</style></head><body>
<h1 id="top">Hi</h1><h2>More</h2><a href="#top">up</a><a href="#">top</a>
<img src="x.png" alt=""><label for="q">Q</label><input id="q"></body></html>"""
needs_parsers = pytest.mark.skipif(
    importlib.util.find_spec("html5lib") is None or importlib.util.find_spec("tinycss2") is None,
    reason="html5lib and tinycss2 are not installed",
)


@needs_parsers
def test_a_good_page_passes_and_each_fault_costs_its_kind():
    assert check_page(GOOD).score == 1.0
    assert check_page(f"Here you are:\n```html\n{GOOD}\n```\nEnjoy.").score == 1.0
    faults = {
        "parse_errors": GOOD.replace("</h1>", "</h4></p>"),
        "css_errors": GOOD.replace("color: red", "color red"),
        "structure": GOOD.replace("<title>T</title>", "<title> </title>"),
        "dead_references": GOOD.replace('href="#top"', 'href="#gone"'),
    }
    for kind, page in faults.items():
        report = check_page(page)
        assert getattr(report, kind), kind
        assert report.score == 0.75, (kind, report)


@needs_parsers
def test_parse_errors_are_those_of_html5lib():
    import html5lib

    page = "<p>hi<b></p><table><div></table>"
    parser = html5lib.HTMLParser()
    parser.parse(page)
    assert len(check_page(page).parse_errors) == len(parser.errors) > 0


@needs_parsers
@pytest.mark.parametrize("text", ["", "just words", "\x00", "\ud800", "你好" * 1000])
def test_a_text_that_is_no_page(text):
    assert check_page(text).score == 0.0


def test_latency():
    found = latency([1.0, 2.0, 3.0, 4.0])
    assert (found.mean, found.p50) == (2.5, 2.5)
    assert found.p99 == pytest.approx(np.quantile([1, 2, 3, 4], 0.99))
    one = item("x", latency_s=2.0, token_ids=(1, 2, 3))
    assert get_metric("latency").score([one])[0][0].value == 2.0
    speed = get_metric("latency", {"of": "tokens_per_second"})
    assert speed.score([one])[0][0].value == 1.5
    assert speed.spec.direction == "higher"
    assert get_metric("latency").score([item("x")])[0][0].outcome is ScoreOutcome.UNSCORED
    first = get_metric("latency", {"of": "first_token"})
    timed = MetricItem(one.sample, (replace(one.responses[0], first_token_s=0.5),))
    known, unknown = first.score([timed, one])
    assert known[0].value == 0.5
    assert unknown[0].outcome is ScoreOutcome.UNSCORED


MODULE = """
import datasets
import evaluate

class Same(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        same = [p == r for p, r in zip(predictions, references)]
        return {"same": sum(same) / len(same)}
"""


def test_a_module_of_evaluate_by_path(tmp_path):
    path = tmp_path / "same.py"
    path.write_text(MODULE)
    metric = get_metric(f"evaluate:{path}", {"key": "same"})
    rows = metric.score([item("a", "b", references=["a"]), item("a")])
    assert [one.value for one in rows[0]] == [1.0, 0.0]
    assert rows[1][0].outcome is ScoreOutcome.UNSCORED
    assert metric.spec.name == "evaluate:same"
    assert "|module:same.py@" in metric.spec.signature
    assert str(tmp_path) not in metric.spec.signature


def test_a_module_of_evaluate_is_found_beside_its_suite(tmp_path, monkeypatch):
    from harness.suite.load import load_suite
    from tests.harness.suite_builders import suite_yaml

    (tmp_path / "suites").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites" / "same.py").write_text(MODULE)
    task = {
        "data": "capitals.jsonl",
        "prompt": {"user": "{{ country }}"},
        "reference": "{{ capital }}",
        "metrics": ["evaluate:./same.py"],
    }
    suite = load_suite(suite_yaml(tmp_path / "suites", tasks={"ask": task}))
    assert [metric.spec.name for _, metric in suite.metrics()] == ["evaluate:same"]


def test_a_module_that_is_missing_says_so(tmp_path):
    with pytest.raises(UserError, match="can't be loaded") as caught:
        get_metric(f"evaluate:{tmp_path / 'gone.py'}")
    assert "local copy" in caught.value.hint
