"""Two lists of numbers made into a verdict: what is taken, what is refused, and its laws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness import UserError, gate
from harness.gate.policy import GatePolicy

values = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=40)
pairs = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=60)
directions = st.sampled_from(["higher", "lower"])


def outcome(*sides: Any, **options: Any) -> str:
    return gate(*sides, **options).outcome.value


ANCHOR = [0.5 + 0.4 * (i % 2) for i in range(200)]
WORSE = [0.7 * value for value in ANCHOR]


@settings(deadline=None, max_examples=30)
@given(values, directions, st.sampled_from([0.0, 0.01, 0.05, 0.5]))
@example([0.0, 2.5e-292], "higher", 0.01)  # the square of what may be lost is no float
def test_identical_lists_never_fail(numbers: list[float], direction: Any, margin: float) -> None:
    assert outcome(numbers, list(numbers), direction=direction, margin=margin) != "fail"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), directions)
def test_identical_lists_never_fail_on_a_scale_without_a_zero(
    numbers: list[float], direction: Any
) -> None:
    assert outcome(numbers, numbers, direction=direction, scale="interval") != "fail"


@settings(deadline=None, max_examples=30)
@given(pairs, directions, st.randoms())
def test_the_order_of_samples_does_not_matter(
    sides: list[tuple[int, int]], direction: Any, random: Any
) -> None:
    shuffled = random.sample(sides, len(sides))
    one, other = (
        gate([c for c, _ in pairs], [a for _, a in pairs], direction=direction)
        for pairs in (sides, shuffled)
    )
    assert one.outcome == other.outcome
    assert one.headline == other.headline


@settings(deadline=None, max_examples=30)
@given(pairs)
def test_a_better_candidate_never_fails(sides: list[tuple[int, int]]) -> None:
    anchor = [min(pair) for pair in sides]
    candidate = [max(pair) for pair in sides]
    assert outcome(candidate, anchor) != "fail"
    assert outcome(anchor, candidate, direction="lower") != "fail"


def test_direction_says_which_side_is_worse() -> None:
    assert outcome(WORSE, ANCHOR) == "fail"
    assert outcome(WORSE, ANCHOR, direction="lower") == "pass"
    assert outcome(ANCHOR, WORSE, direction="lower") == "fail"


def test_the_margin_decides_and_the_policy_with_it(tmp_path: Path) -> None:
    assert outcome(WORSE, ANCHOR, margin=0.5) == "pass"
    assert outcome(WORSE, ANCHOR, policy={"margin": 0.5}) == "pass"
    assert outcome(WORSE, ANCHOR, policy=GatePolicy(margin=0.5)) == "pass"
    file = tmp_path / "policy.yaml"
    file.write_text("margin: 0.5\n", encoding="utf-8")
    assert outcome(WORSE, ANCHOR, policy=file) == "pass"
    assert outcome(WORSE, ANCHOR, policy=str(file), margin=0.05) == "fail"


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, torch.tensor, lambda v: [np.float32(x) for x in v]]
)
def test_numbers_may_come_in_any_ordered_kind(kind: Any) -> None:
    assert outcome(kind(WORSE), kind(ANCHOR)) == "fail"


def test_right_and_wrong_are_numbers() -> None:
    right = [True] * 90 + [False] * 10
    assert outcome([not value for value in right], right) == "fail"
    assert gate(right, right).row("value").name == "value"


def test_several_metrics_have_a_row_each_and_a_direction_each() -> None:
    verdict = gate(
        {"accuracy": ANCHOR, "seconds": ANCHOR},
        {"accuracy": ANCHOR, "seconds": WORSE},
        direction={"seconds": "lower"},
    )
    assert [row.name for row in verdict.failing()] == ["seconds"]
    assert verdict.row("accuracy").outcome.value == "pass"


def test_a_range_below_zero_has_no_relative_margin() -> None:
    rewards = [value - 0.7 for value in ANCHOR]
    less = [reward - 0.2 for reward in rewards]
    assert outcome(less, rewards, low=-1, high=1) == "fail"
    assert outcome(less, rewards, scale="interval") == "fail"
    assert outcome(rewards, less, scale={"value": "interval"}) == "pass"


@pytest.mark.parametrize(
    ("candidate", "against", "options", "says"),
    [
        ([1, 0], [1, 0, 1], {}, "candidate has 2 numbers, and against 3"),
        ({"a": [1]}, {"a": [1, 0]}, {}, "candidate has 1 numbers of 'a', and against 2"),
        ([], [], {}, "candidate is empty"),
        ({}, {}, {}, "candidate has no metric"),
        ([1, "b"], [1, 0], {}, r"candidate\[1\] is the text 'b'"),
        ([1, None], [1, 0], {}, r"candidate\[1\] is None"),
        ([1, 0], [1, math.nan], {}, r"against\[1\] is nan"),
        ([1, math.inf], [1, 0], {}, r"candidate\[1\] is inf"),
        ([[1, 0]], [[1, 0]], {}, "several numbers for one sample"),
        (np.ones((2, 2)), np.ones((2, 2)), {}, "several numbers for one sample"),
        ({1, 2}, [1, 2], {}, "candidate is a set"),
        (None, [1], {}, "candidate is None"),
        ([1], 7, {}, "against is an int"),
        ({"a": [1]}, {"b": [1]}, {}, "against has a metric 'b' that candidate doesn't have"),
        ({"a": [1]}, [1], {}, "that candidate doesn't have"),
        ({"q1": 1}, {"q1": 1}, {}, "candidate\\['q1'\\] is an int"),
        ([-1], [1], {}, "no share can be taken of a value below 0"),
        ([2], [1], {"low": 0, "high": 1}, "outside of the range from 0 to 1"),
        ([1], [1], {"low": "0"}, "low is the text '0'"),
        ([1], [1], {"direction": "up"}, "direction is 'up'"),
        ([1], [1], {"direction": {"x": "lower"}}, "not one of the metrics"),
        ([1], [1], {"scale": "log"}, "scale is 'log'"),
        ([1], [1], {"margin": "5%"}, "margin is the text '5%'"),
        ([1], [1], {"margin": 5}, "a margin is a share"),
        ([1], [1], {"policy": {"metrics": {"x": {}}}}, "a metric that the runs don't have: 'x'"),
        ([1], [1], {"policy": "nonesuch.yaml"}, "no such policy"),
        ([1], [1], {"suite": "suite.yaml"}, "suite= is for models and runs"),
        ([1], "run:abcd", {}, "against names a model or a run"),
    ],
)
def test_what_cant_be_used_is_one_clear_message(
    candidate: Any, against: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        gate(candidate, against, **options)


def test_a_verdict_prints_as_headline_and_table() -> None:
    lines = str(gate(WORSE, ANCHOR)).splitlines()
    assert lines[0].startswith("FAIL: value fell from 0.700 to 0.490 on 200 samples")
    assert lines[2].split() == ["metric", "anchor", "candidate", "change", "[95%]", "allowed",
                                "verdict"]  # fmt: skip
    assert lines[4].split()[:4] == ["value", "0.700", "0.490", "−0.210"]
    assert lines[4].endswith("fail")
    open_ = str(gate([1, 0, 1, 1], [1, 1, 1, 1]))
    assert "PASS would take about" in open_.splitlines()[-1]


def test_columns_line_up_under_names_of_any_script() -> None:
    from rich.cells import cell_len

    both = {"准确率": ANCHOR, "accuracy": ANCHOR}
    table = str(gate(both, both)).splitlines()[2:]
    ends = {cell_len(line[: line.index("0.700")]) for line in table[2:4]}
    assert len(ends) == 1
