"""BERTScore against bert-score, with the embedded encoder."""

from __future__ import annotations

import random
from contextlib import contextmanager

import bert_score
import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import bertscore as module
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.bertscore import bertscore
from harness.metrics.support.encoders import embedded_encoder, load, max_tokens, resolve

WORDS = (
    *("the", "a", "cat", "dog", "sat", "on", "mat", "house", "quickly", "ran", "red", "blue"),
    *("thought", "idea", "why", "you", "it", "never."),
)


@pytest.fixture(autouse=True)
def no_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "no-workspace"))


def sentences(seed, n):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 25))) for _ in range(n)]


def reference_score(candidates, references, **options):
    found = bert_score.score(
        candidates, references, model_type=str(embedded_encoder()), nthreads=0, **options
    )
    return [column.double().numpy() for column in found]


@pytest.mark.parametrize(("layer", "idf"), [(6, False), (6, True), (3, False)])
def test_equals_bert_score(layer, idf):
    candidates, references = sentences(1, 24), sentences(2, 24)
    ours = bertscore(candidates, references, layer=layer, idf=idf)
    theirs = reference_score(candidates, references, num_layers=layer, idf=idf)
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, their, atol=1e-5)


def test_equals_bert_score_with_several_references():
    candidates, flat = sentences(3, 12), sentences(4, 36)
    groups = [flat[i : i + 1 + i % 3] for i in range(12)]
    ours = bertscore(candidates, groups, idf=True)
    theirs = reference_score(candidates, groups, num_layers=6, idf=True)
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, their, atol=1e-5)


def test_a_score_does_not_depend_on_its_batch_or_order():
    candidates, references = sentences(5, 20), sentences(6, 20)
    together = bertscore(candidates, references).f1
    module.EMBEDDINGS.clear()
    alone = [bertscore([c], [r]).f1[0] for c, r in zip(candidates, references, strict=True)]
    backwards = bertscore(candidates[::-1], references[::-1]).f1[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)


def test_a_text_equals_itself_and_sides_swap():
    texts = sentences(7, 5)
    np.testing.assert_allclose(bertscore(texts, texts).f1, 1.0, atol=1e-6)
    here, there = bertscore(texts, texts[::-1]), bertscore(texts[::-1], texts)
    np.testing.assert_allclose(here.precision, there.recall, atol=1e-6)


def test_hostile_texts_have_finite_scores():
    hostile = ["", " ", "\x00", "\ud800", "!!!", "😀" * 50, "a" * 100_000, "مرحبا"]
    for scores in bertscore(hostile, hostile[::-1]):
        assert np.isfinite(scores).all()
        assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()
    assert bertscore([""], ["a cat"]).f1.tolist() == [0.0]


@contextmanager
def texts_read():
    """How many texts the encoder is asked to read, batch by batch."""
    _, model = load(resolve(None), "AutoModel")
    read = []
    hook = model.register_forward_pre_hook(lambda module, inputs: read.append(len(inputs[0])))
    yield read
    hook.remove()


def test_references_are_embedded_once():
    references = sentences(8, 6)
    bertscore(sentences(9, 6), references)
    with texts_read() as read:
        bertscore(sentences(10, 6), references)
    assert sum(read) == 6


def test_references_are_kept_in_the_workspace_for_another_process(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    candidates, references = sentences(11, 6), [*sentences(12, 5), "\ud800"]
    module.EMBEDDINGS.clear()
    first = bertscore(candidates, references)
    (saved,) = (tmp_path / "cache" / "embeddings").rglob("*.safetensors")
    module.EMBEDDINGS.clear()
    with texts_read() as read:
        second = bertscore(candidates, references)
    assert sum(read) == len(set(candidates))
    for again, before in zip(second, first, strict=True):
        np.testing.assert_allclose(again, before, atol=1e-6)
    saved.write_bytes(b"torn")
    module.EMBEDDINGS.clear()
    np.testing.assert_allclose(bertscore(candidates, references).f1, first.f1, atol=1e-6)


def test_without_a_workspace_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "none"))
    module.EMBEDDINGS.clear()
    bertscore(["a cat"], ["a dog"])
    assert list(tmp_path.iterdir()) == []


def test_the_huge_sentinel_length_is_no_limit():
    tokenizer = type("T", (), {"model_max_length": int(1e30)})()
    config = type("C", (), {"max_position_embeddings": 512, "model_type": "bert"})()
    assert max_tokens(tokenizer, type("M", (), {"config": config})()) == 512
    config.max_position_embeddings = None
    assert max_tokens(tokenizer, type("M", (), {"config": config})()) == 2**31 - 1


def test_the_cache_lets_the_oldest_go():
    import torch

    cache = module.EmbeddingMemory(limit=1000)
    for index in range(5):
        cache.put(("e", str(index)), module.Embedded((1,), torch.zeros(100)))
    assert list(cache.entries) == [("e", "3"), ("e", "4")]
    assert cache.held == 800


def test_mistakes_are_named():
    with pytest.raises(UserError, match="1 candidates, but references for 2"):
        bertscore(["a"], ["a", "b"])
    with pytest.raises(UserError, match="candidate 1 has no reference"):
        bertscore(["a", "b"], [["a"], []])
    with pytest.raises(UserError, match="has 6 layers, not 9"):
        bertscore(["a"], ["b"], layer=9)
    with pytest.raises(UserError, match="can't be loaded"):
        bertscore(["a"], ["b"], model="/nowhere/at/all")


def test_the_embedded_encoder_leaves_chinese_unscored():
    metric = get_metric("bertscore")
    item = MetricItem(
        Sample("1", "t", references=("天气很好",)),
        (Response("k", "1", "t", "generation", 0, 0, "今天天气很好"),),
    )
    (evidence,) = metric.score([item])[0]
    assert evidence.outcome is ScoreOutcome.UNSCORED
    assert "multilingual" in evidence.reason


def test_against_the_prompt():
    sample = Sample("1", "t", prompt=({"role": "user", "content": "tell me of the cat"},))
    item = MetricItem(sample, (Response("k", "1", "t", "generation", 0, 0, "the cat sat"),))
    (evidence,) = get_metric("bertscore", {"against": "prompt"}).score([item])[0]
    assert evidence.value == pytest.approx(
        bertscore(["the cat sat"], ["tell me of the cat"]).f1[0], abs=1e-6
    )
