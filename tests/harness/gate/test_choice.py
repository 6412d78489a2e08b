"""Which of several candidates looks best: harmless on every required metric, and furthest ahead."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.gate.choice import estimates, in_order
from harness.gate.policy import GatePolicy, policy_from_mapping
from tests.harness.gate.run_builders import documents, right, scores

MATCH, LOSS = "t/match", "t/perplexity"


def chosen(anchor: Any, candidates: Any, policy: GatePolicy = GatePolicy()) -> list[Any]:
    return in_order(estimates(anchor, candidates, policy))


def test_gains_are_counted_in_margins_of_the_largest_value() -> None:
    anchor = {MATCH: right(20, of=50)}
    found = estimates(anchor, {1: {MATCH: right(30, of=50)}, 2: {MATCH: right(40, of=50)}})
    # 0.05 of 0.8 is a margin for all of them.
    assert found[1].gains[MATCH] == pytest.approx(0.2 / 0.04)
    assert found[2].gains[MATCH] == pytest.approx(0.4 / 0.04)
    assert in_order(found) == [2, 1]


def test_an_anchor_that_knows_nothing_has_a_margin_too() -> None:
    anchor = {MATCH: right(0, of=50)}
    found = estimates(anchor, {n: {MATCH: right(n, of=50)} for n in (0, 5, 10)})
    assert found[10].gain == pytest.approx(20)
    assert found[5].gain == pytest.approx(10)
    assert not found[0].ahead
    assert found[0].harmless
    assert in_order(found) == [10, 5]
    assert chosen(anchor, {"same": anchor}) == []


def test_harm_on_one_metric_outweighs_any_gain_on_another() -> None:
    tokens = [100.0] * 20
    anchor = {MATCH: right(20, of=50), LOSS: documents([1.0] * 20, tokens)}
    candidates = {
        "torn": {MATCH: right(50, of=50), LOSS: documents([1.001] * 20, tokens)},
        "modest": {MATCH: right(21, of=50), LOSS: documents([0.99] * 20, tokens)},
    }
    found = estimates(anchor, candidates)
    assert found["torn"].gains[LOSS] == pytest.approx(-0.001 / math.log(1.05))
    assert chosen(anchor, candidates) == ["modest"]
    advisory = policy_from_mapping({"metrics": {LOSS: {"advisory": True}}})
    assert chosen(anchor, candidates, advisory) == ["torn", "modest"]
    watched = policy_from_mapping({"metrics": {MATCH: {"required": True}}})
    assert chosen(anchor, candidates, watched) == ["torn", "modest"]
    waived = policy_from_mapping({"metrics": {LOSS: {"waiver": {"reason": "a known bug"}}}})
    assert chosen(anchor, candidates, waived) == ["torn", "modest"]


def test_lower_is_better_where_the_metric_says_so() -> None:
    anchor = {MATCH: scores([0.4] * 20, direction="lower")}
    candidates = {n: {MATCH: scores([n] * 20, direction="lower")} for n in (0.2, 0.3, 0.5)}
    found = estimates(anchor, candidates)
    assert in_order(found) == [0.2, 0.3]
    assert found[0.3].gain == pytest.approx(0.1 / (0.05 * 0.5))


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_a_scale_without_a_zero_has_its_spread_for_a_unit(margin: float) -> None:
    values = [float(n) - 30 for n in range(20)]
    anchor = {MATCH: scores(values, scale="interval")}
    better = {MATCH: scores([v + 1 for v in values], scale="interval")}
    best = {MATCH: scores([v + 2 for v in values], scale="interval")}
    found = estimates(anchor, {1: better, 2: best}, GatePolicy(margin=margin))
    assert in_order(found) == [2, 1]
    assert found[2].gain == pytest.approx(2 * found[1].gain)
    assert math.isfinite(found[2].gain)


def test_without_any_margin_gains_still_have_a_unit() -> None:
    found = estimates(
        {MATCH: right(20, of=50)}, {1: {MATCH: right(30, of=50)}}, GatePolicy(margin=0)
    )
    assert found[1].gain == pytest.approx(0.2 / 0.03)


def test_who_cannot_be_compared_is_not_chosen() -> None:
    anchor = {MATCH: right(20, of=50)}
    found = estimates(anchor, {"other": {}, "short": {MATCH: right(30, of=40)}, "empty": anchor})
    assert "doesn't have this metric" in found["other"].problem
    assert found["short"].problem
    assert in_order(found) == []
    none = policy_from_mapping({"metrics": {MATCH: {"advisory": True}}})
    assert estimates(anchor, {1: anchor}, none)[1].problem == "no metric is required"


def test_of_equal_ones_the_later_is_chosen() -> None:
    anchor, better = {MATCH: right(20, of=50)}, {MATCH: right(30, of=50)}
    assert chosen(anchor, {10: better, 20: better, 30: anchor}) == [20, 10]
