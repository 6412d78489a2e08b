"""A suite keeps its labels and choices apart, and never guesses which choice is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.types import Response
from harness.metrics.base import Metric, MetricItem
from harness.metrics.multiple_choice import right_choice
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import suite_yaml, write_jsonl


def suite_of(folder: Path, rows: list[dict[str, Any]], metric: Any, **task: Any) -> Suite:
    write_jsonl(folder / "rows.jsonl", [{"id": str(i), **row} for i, row in enumerate(rows)])
    own = {"data": "rows.jsonl", "prompt": {"user": "?"}, "metrics": [metric], **task}
    return load_suite(suite_yaml(folder, tasks={"ask": own}, gate={}))


def values(suite: Suite, answers: list[str]) -> list[float | None]:
    """What each sample scores with its answer."""
    [task] = suite.tasks
    [metric] = task.metrics
    return [
        metric.score([MetricItem(sample, (_said(answer),))])[0][0].value
        for sample, answer in zip(task.samples, answers, strict=True)
    ]


def _said(text: str) -> Response:
    return Response("k", "s", "ask", "generation", 0, 0, text)


LABELS = ["-1", "1", "+", "-", "C", "c", "C++", "10", "10%", "3.14", "314", "<", ">", "May", "may"]


@pytest.mark.parametrize(
    "metric",
    [
        "accuracy",
        "exact_match",
        {"exact_match": {"normalize": "label"}},
        {"pass_at_k": {"k": 1, "of": "accuracy"}},
        {"f1_macro": {"labels": LABELS}},
    ],
)
def test_a_label_is_only_itself(tmp_path: Path, metric: Any) -> None:
    suite = suite_of(tmp_path, [{"label": x} for x in LABELS], metric, reference="{{ label }}")
    for answer in LABELS:
        expected = [float(label == answer) for label in LABELS]
        assert values(suite, [answer] * len(LABELS)) == expected
        if answer[-1].isalnum():
            assert values(suite, [f" {answer}.\n"] * len(LABELS)) == expected


def test_labels_that_nobody_could_mix_up_are_read_kindly(tmp_path: Path) -> None:
    rows = [{"label": x} for x in ("Positive", "Negative", "C", "c")]
    suite = suite_of(tmp_path, rows, "accuracy", reference="{{ label }}")
    assert values(suite, ["**positive**.", "NEGATIVE!", "`C`", "(c)"]) == [1.0] * 4
    assert values(suite, ["negative", "", "c", "<think>c</think>"]) == [0.0] * 4


def choices_of(folder: Path, rows: list[tuple[list[str], Any]], **options: Any) -> Suite:
    return suite_of(
        folder,
        [{"options": list(choices), "answer": answer} for choices, answer in rows],
        {"multiple_choice": options},
        choices="options",
    )


def chosen(suite: Suite) -> list[int | None]:
    """Which choice counts as right in each sample: the one that scores where it is preferred."""
    [task] = suite.tasks
    [metric] = task.metrics
    return [next((i for i in range(len(s.references)) if _wins(metric, s, i)), None)
            for s in task.samples]  # fmt: skip


def _wins(metric: Metric, sample: Any, index: int) -> bool:
    said = tuple(
        Response(
            "k", sample.id, "ask", "reference", i, 0, text, logprobs=(-0.1 - 900 * (i != index),)
        )
        for i, text in enumerate(sample.references)
    )
    return metric.score([MetricItem(sample, said)])[0][0].value == 1.0


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([(["5", "-5"], "-5"), (["C", "C++"], "C++")], [1, 1]),
        ([(["10", "10%"], "10%"), (["1/2", "12"], "12"), (["+", "-"], "-")], [1, 1, 1]),
        ([(["x", "y"], 1), (["x", "y"], 0)], [1, 0]),
        ([(["x", "y"], "B"), (["x", "y"], "(a)")], [1, 0]),
        ([(["Paris", "Rome"], "paris."), (["a b", "c d"], "c  d")], [0, 1]),
        ([(["True", "False"], False), (["false", "true"], True)], [1, 1]),
        ([(["3.14", "314"], 3.14), (["2.5", "25"], "2.5")], [0, 0]),
        ([(["Paris", "Rome"], "\uff22"), (["x", "y"], "[A]")], [1, 0]),
        # texts throughout, since one is no number of a choice
        ([(["10", "20"], 20), (["-5", "5"], -5)], [1, 0]),
        # letters throughout, although one row's choices are letters themselves
        ([(["x", "y"], "B"), (["B", "A"], "B")], [1, 1]),
        # numbers throughout, although one row's choices are numbers
        ([(["x", "y"], 1), (["1", "0"], 1)], [1, 1]),
        # texts throughout, although one row's text is a number that counts
        ([(["7", "8"], "8"), (["1", "0"], "1")], [1, 0]),
    ],
)
def test_the_right_choice_is_the_one_that_is_named(tmp_path: Path, rows: Any, right: Any) -> None:
    assert chosen(choices_of(tmp_path, rows)) == right


@pytest.mark.parametrize(
    ("choices", "answer"), [(["B", "A"], "A"), (["1", "0"], "1"), (["2", "3", "1"], 1)]
)
def test_a_choice_that_two_ways_name_differently_is_refused(
    tmp_path: Path, choices: list[str], answer: Any
) -> None:
    with pytest.raises(UserError, match="by its text and") as caught:
        choices_of(tmp_path, [(choices, answer)])
    assert "answer_is" in str(caught.value.hint)
    assert caught.value.line
    text = choices_of(tmp_path, [(choices, answer)], answer_is="text")
    assert chosen(text) == [choices.index(str(answer))]


def test_of_two_equal_choices_either_is_right(tmp_path: Path) -> None:
    suite = choices_of(tmp_path, [(["x", "y", "x"], 2)])
    [task] = suite.tasks
    assert _wins(task.metrics[0], task.samples[0], 0)
    assert _wins(task.metrics[0], task.samples[0], 2)
    assert not _wins(task.metrics[0], task.samples[0], 1)


def test_right_choice_alone() -> None:
    assert right_choice("-5", ["5", "-5"]) == 1
    assert right_choice("3.14", ["314", "3.14"]) == 1
    assert right_choice("c", ["C++", "C"]) == 1
    assert right_choice("b", ["x", "y"]) == 1
    assert right_choice("1", ["x", "y"]) == 1
    assert right_choice(2, ["x", "y"]) is None
    assert right_choice(True, ["x", "y"]) is None
    assert right_choice("z", ["x", "y"]) is None
