"""Names of metrics and declarations of tasks, as a run's protocol has them."""

from __future__ import annotations

import pytest

from harness.core.protocol import SAMPLING, MetricName, metrics_of, tasks_of

PROTOCOL = {
    "qa": {"data": "d", "generate": {"temperature": 0}, "metrics": {"em": {}, "evaluate:a/b": {}}},
    "text": {"data": "t", "generate": None, "metrics": {"perplexity": {}}},
    SAMPLING: {"limit": None, "seed": None},
}


@pytest.mark.parametrize("text", ["qa/em", "code/pass@1", "qa/evaluate:a/b", "latency"])
def test_a_metric_name_is_parsed_as_it_is_written(text: str) -> None:
    assert str(MetricName.parse(text)) == text


def test_the_first_slash_ends_the_task() -> None:
    assert MetricName.parse("qa/evaluate:a/b") == MetricName("qa", "evaluate:a/b")
    assert MetricName.parse("latency") == MetricName("", "latency")


def test_the_sampling_entry_is_not_a_task() -> None:
    tasks = tasks_of(PROTOCOL)
    assert list(tasks) == ["qa", "text"]
    assert [task.generates for task in tasks.values()] == [True, False]
    names = [str(name) for name, _ in metrics_of(PROTOCOL)]
    assert names == ["qa/em", "qa/evaluate:a/b", "text/perplexity"]


def test_a_task_keeps_its_digest_when_a_metric_is_added() -> None:
    task = tasks_of(PROTOCOL)["qa"]
    more = tasks_of({"qa": {**PROTOCOL["qa"], "metrics": {"rouge_l": {}}}})["qa"]
    other = tasks_of({"qa": {**PROTOCOL["qa"], "data": "e"}})["qa"]
    assert task.digest == more.digest != other.digest
