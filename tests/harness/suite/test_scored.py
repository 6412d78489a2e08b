"""The suites that ship, and a judge, scored with a real model as a user would: slow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.backends.base import Candidate
from harness.comparison.evidence import summarize
from harness.core.types import Response, Sample, ScoreOutcome
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.evaluation.open_model import open_model
from harness.evaluation.runner import score
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import write_jsonl

MODEL = "smollm2-135m-instruct"
SUITES = Path(__file__).parents[3] / "suites"
# Enough samples that both languages of a bilingual suite come up.
LIMITS = {
    "chat-en": 3,
    "chat-zh": 3,
    "safety": 4,
    "knowledge": 8,
    "forgetting": 6,
    "bias-pairs": 8,
    "quickstart": 4,
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = tmp_path_factory.mktemp("real") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        with Store(Workspace.at().ensure()) as opened:
            yield opened


@pytest.fixture(scope="module")
def model(store: Store) -> Candidate:
    found = open_model(MODEL, store.workspace, store)
    return replace(found, open=cache(found.open))


def test_no_shipped_suite_is_left_out() -> None:
    assert {path.stem for path in SUITES.glob("*.yaml")} >= set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_every_metric_of_a_shipped_suite_is_scored_or_says_why(
    name: str, model: Candidate, store: Store
) -> None:
    suite = load_suite(SUITES / f"{name}.yaml")
    report = score(model, suite, store, limit=LIMITS[name])
    assert report.failed == 0
    lines = summarize(store, report.run)
    assert {line.metric for line in lines} == set(suite.roles())
    for line in lines:
        assert line.counts.total == LIMITS[name], line
        assert line.counts.errors == 0, line
        if line.counts.scored < line.counts.total:
            assert line.counts.unscored, line
            assert line.counts.reason, line
        if line.counts.scored:
            assert line.estimate.value is not None, line
            assert math.isfinite(line.estimate.value), line
        else:
            assert line.estimate.value is None, line
        if not line.metric.endswith(("toxicity", "self_bleu")):
            assert line.counts.scored == line.counts.total, line


def test_a_live_judge_decides_or_says_that_it_did_not(store: Store, tmp_path: Path) -> None:
    people = write_jsonl(
        tmp_path / "people.jsonl",
        [
            {"question": "2 + 2?", "left": "4", "right": "A fish.", "choice": "left"},
            {"question": "Capital of Peru?", "left": "Rome", "right": "Lima", "choice": "right"},
        ],
    )
    options = {"model": MODEL, "max_new_tokens": 48, "price": 1.0, "humans": str(people)}
    metric = get_metric("judge", options)
    items = [
        MetricItem(
            Sample(q, "t", prompt=({"role": "user", "content": q},), references=(reference,)),
            (Response(q, q, "t", "generation", 0, 0, answer),),
        )
        for q, reference, answer in (
            ("Name a colour.", "Blue.", "Green."),
            ("How many legs has a dog?", "Four.", "A dog has nine legs."),
            ("你好，请介绍一下自己。", "我是一个助手。", "不知道"),
        )
    ]
    for (evidence,) in metric.score(items):
        tokens, consistent, cost, pairs, *_ = evidence.stats
        # Both orders were asked, with the instruction each time.
        assert tokens > 2 * 60
        assert cost == pytest.approx(tokens / 1e6)
        assert pairs <= 2
        if evidence.outcome is ScoreOutcome.SCORED:
            assert evidence.value in (0.0, 0.5, 1.0)
            assert consistent or evidence.value == 0.5
        else:
            assert evidence.outcome is ScoreOutcome.ERROR
            assert "no verdict in" in (evidence.reason or "")
