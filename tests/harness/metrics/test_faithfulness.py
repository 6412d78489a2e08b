"""An answer's sentences against its passages, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import faithfulness as module
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.faithfulness import faithfulness, sentences_of
from tests.tiny import save_tiny_classifier


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains [1]. It snows.[2, 3]", ["It rains.", "It snows."]),
        ("Dr. Li came. He left!", ["Dr. Li came.", "He left!"]),
        ("It was 3.5 degrees. OK?", ["It was 3.5 degrees.", "OK?"]),
        ("今天下雨【1】。明天下雪！好吗？", ["今天下雨。", "明天下雪！", "好吗？"]),
        ("- one\n- two\n\n1. three", ["one", "two", "three"]),
        ("...", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


@pytest.fixture
def contains(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of an entailment model: a passage entails the sentence that it holds."""

    def entailed(answers: Sequence[str], references: Sequence[str], *, model: str) -> Any:
        assert model == "nli"
        pairs = zip(answers, references, strict=True)
        return np.array([0.9 if said.strip(".。") in given else 0.1 for said, given in pairs])

    monkeypatch.setattr(module, "entailment", entailed)


@pytest.mark.usefixtures("contains")
def test_the_share_of_sentences_that_follow() -> None:
    found = faithfulness(
        ["It rains. It snows. It burns.", "下雨。下雪。", "It rains.", ""],
        [["It rains here", "It snows there"], ["今天下雨"], [], ["It rains"]],
        model="nli",
    )
    assert found == pytest.approx([2 / 3, 1 / 2, 0.0, 0.0])
    assert faithfulness(["It rains."], [["no"]], model="nli", threshold=0.1) == [1.0]
    with pytest.raises(ValueError, match="passages for 0"):
        faithfulness(["a"], [], model="nli")


def test_the_metric_reads_passages_of_the_row(tmp_path: Path) -> None:
    model = str(save_tiny_classifier(tmp_path / "nli", "contradiction", "entailment"))
    metric = get_metric("faithfulness", {"model": model, "contexts": "found"})
    contexts: list[Any] = [["It rains."], "It rains.", [{"text": "It rains."}], [], None]
    items = [
        MetricItem(
            Sample(f"{n}", "t", fields={"found": found}),
            (Response("k", f"{n}", "t", "generation", 0, 0, "It rains."),),
        )
        for n, found in enumerate(contexts)
    ]
    rows = [row[0] for row in metric.score(items)]
    assert len({row.value for row in rows[:3]}) == 1
    assert rows[0].value in (0.0, 1.0)
    assert [row.outcome for row in rows[3:]] == [ScoreOutcome.UNSCORED] * 2
    assert "'found'" in str(rows[3].reason)
    assert metric.spec.reads == ("found",)


def test_a_threshold_is_a_probability(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        get_metric("faithfulness", {"model": str(tmp_path), "threshold": 2.0})
