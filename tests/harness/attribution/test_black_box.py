"""SHAP and LIME: of a score whose words are known, and of a reward model at the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.attribution.black_box import word_scores
from harness.cli.app import main
from harness.store.store import Store
from tests.harness.suite_builders import verdict_between
from tests.tiny import tiny_tokenizer

pytest.importorskip("captum")
ADDS = {"please": 1.5, "never": -2.0, "thank": 0.5}


def polite(texts: Sequence[str]) -> list[float]:
    return [0.25 + sum(value for word, value in ADDS.items() if word in text) for text in texts]


def test_of_a_sum_of_words_each_is_what_it_adds() -> None:
    found = word_scores(polite, "please do it, never mind, thank you")
    assert found.words == ("please", "do", "it", ",", "never", "mind", ",", "thank", "you")
    expected = [ADDS.get(word, 0.0) for word in found.words]
    assert found.shapley == pytest.approx(expected, abs=1e-9)
    assert found.lime == pytest.approx(expected, abs=1e-6)
    assert (found.whole, found.empty) == pytest.approx((0.25, 0.25))


def test_words_that_count_together_share_and_the_sum_is_whole() -> None:
    """`not good` is bad: Shapley's values share it, and sum up to the change; seeds repeat."""

    def score(texts: Sequence[str]) -> list[float]:
        return [-1.0 if "not good" in text else float("good" in text) for text in texts]

    found = word_scores(score, "it is not good")
    assert sum(found.shapley) == pytest.approx(found.whole - found.empty)
    assert found.shapley[2] < 0
    assert word_scores(score, "it is not good") == found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reward model and a classifier of three labels."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = tiny_tokenizer()
    made = {}
    for name, labels in (("reward", 1), ("labels", 3)):
        folder = made[name] = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_labels=labels,
            pad_token_id=0,
            initializer_range=0.3,
        )
        LlamaForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return made


@pytest.mark.parametrize(("kind", "said"), [("reward", "reward by"), ("labels", "ln p(LABEL_")])
def test_an_answer_is_explained_by_a_model_that_scores_it(
    tmp_path: Path,
    store: Store,
    models: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    said: str,
) -> None:
    rows: list[Mapping[str, Any]] = [{"id": n, "q": f"ask {n}", "a": "yes"} for n in range(20)]
    bad = "the <b>lazy</b> dog"
    verdict = verdict_between(tmp_path, store, rows, {"ask": "yes"}, {"ask": bad})
    home = ["--home", str(store.workspace.home), "explain", verdict]
    words = ["--sample", "3", "--by", str(models[kind]), "-o", str(tmp_path / "out")]
    assert main([*home, *words]) == 0
    heard = " ".join(capsys.readouterr().out.split())
    assert said in heard
    assert "SHAP, what a word adds:" in heard
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lime.svg", "shap.svg"]
    assert "<b>" not in (tmp_path / "out" / "shap.svg").read_text("utf-8")
    assert main([*home, "--by", str(models[kind])]) == 3
    assert "--sample" in capsys.readouterr().err
    assert main([*home, "--sample", "3", "--by", str(tmp_path / "nothing")]) == 3
