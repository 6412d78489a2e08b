"""The dashboard's numbers are the harness's numbers, and drift sees what is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.queries import answers as outputs
from dashboard.queries import history as queries
from dashboard.queries import measures
from dashboard.queries import sample_diff as comparing
from dashboard.queries.attention import attention, margins
from dashboard.queries.change_points import (
    change_points,
    chinese_share,
    forecast,
    margin_left,
    text_distance,
)
from harness.comparison.evidence import metric_scores, value_with_interval
from harness.gate.pairing import pair
from harness.store.runs import require_run
from harness.store.store import Store


def _newest(store: Store) -> list[dict[str, Any]]:
    return queries.runs_of(store, "demo-support", queries.OUTSIDE)


def _declared(store: Store, run_id: str) -> dict[str, Mapping[str, Any]]:
    run = queries.run(store, run_id)
    assert run is not None
    return queries.declared(run)


def test_values_and_intervals_equal_the_harness(demo: Store) -> None:
    run_id = _newest(demo)[-1]["run_id"]
    found = measures.values(demo, [run_id], _declared(demo, run_id))
    expected = metric_scores(demo, require_run(demo, run_id))
    assert {name for _, name in found} == set(expected)
    for name, scores in expected.items():
        mine = found[run_id, name]
        theirs = value_with_interval(scores)
        assert (mine.value, mine.low, mine.high) == pytest.approx(theirs, rel=1e-9)
        assert mine.n == len(scores.values)


def test_paired_changes_equal_the_gate(demo: Store) -> None:
    runs = _newest(demo)
    anchor = queries.anchor_of(demo, runs)
    assert anchor is not None
    last = runs[-1]["run_id"]
    found = measures.changes(demo, anchor["run_id"], [last], queries.declared(anchor))
    shown = queries.verdict(demo, runs[-1]["verdict_id"])
    assert shown is not None
    for row in shown.verdict.rows:
        mine = found[last, row.metric, ""]
        assert row.measured.change is not None
        assert mine.value == pytest.approx(row.measured.change, abs=1e-9)
        assert mine.base == pytest.approx(row.measured.anchor, abs=1e-9)
        if row.measured.interval is not None and row.measured.form != "perplexity":
            assert (mine.low, mine.high) == pytest.approx(row.measured.interval, abs=1e-9)


def test_slices_add_up(demo: Store) -> None:
    runs = _newest(demo)
    anchor = queries.anchor_of(demo, runs)
    assert anchor is not None
    declared, last = queries.declared(anchor), runs[-1]["run_id"]
    digests = {"intents": comparing.task_digest(anchor, "intents")}
    whole = measures.changes(demo, anchor["run_id"], [last], declared)
    parts = measures.changes(demo, anchor["run_id"], [last], declared, "language", digests)
    name = "intents/json_match"
    halves = [parts[last, name, language] for language in ("en", "zh")]
    assert sum(half.n for half in halves) == whole[last, name, ""].n
    mean = sum(half.value * half.n for half in halves) / sum(half.n for half in halves)
    assert mean == pytest.approx(whole[last, name, ""].value)


def test_pairs_are_counted_and_paged(demo: Store) -> None:
    runs = _newest(demo)
    a, b = runs[0]["run_id"], runs[-1]["run_id"]
    says = _declared(demo, b)["intents/json_match"]
    counts = comparing.tally(demo, a, b, "intents/json_match", says)
    scores = [metric_scores(demo, require_run(demo, r))["intents/json_match"] for r in (a, b)]
    paired = pair(scores[0], scores[1])
    assert counts["regressed"] == int((paired.candidate < paired.anchor).sum())
    assert counts["fixed"] == int((paired.candidate > paired.anchor).sum())
    pages = [
        row["sample_id"]
        for offset in range(0, 200, 50)
        for row in comparing.pairs(demo, a, b, "intents/json_match", says, None, offset, 50)
    ]
    assert sorted(pages) == sorted(paired.ids)
    first = comparing.pairs(demo, a, b, "intents/json_match", says, None, 0, 1)[0]
    assert first["gain"] == min(paired.candidate - paired.anchor)


def test_the_first_page_knows_the_line(demo: Store) -> None:
    (line,) = queries.lines(demo)
    assert (line["line"], line["version"]) == ("demo-support-bot", 2)
    assert line["last_verdict"] == queries.verdicts(demo)[0]["verdict_id"]
    assert margins(demo, "demo-support-bot")
    for item in attention(demo):
        assert "{" not in item.sentence


def test_a_quiet_query_returns_a_bounded_history(demo: Store) -> None:
    runs = queries.runs_of(demo, "demo-support", "demo-first", 3)
    assert [row["step"] for row in runs] == [80, 90, 100]
    assert len(queries.training_steps(demo, "demo-first")) == 110


def test_outputs_are_read_without_labels(demo: Store) -> None:
    ids = [row["run_id"] for row in _newest(demo)]
    found = outputs.lengths(demo, ids, "replies")
    assert set(found) == set(ids)
    texts = outputs.texts(demo, ids, "replies")
    assert len(texts[ids[0]]) == 96
    worded = outputs.wordings(demo, ids[1:], ids[0], "replies")
    assert set(worded) == set(ids)
    wording = worded[ids[0]]
    assert wording["wording"].value == 0
    apart = text_distance(texts[ids[1]], texts[ids[0]])
    assert worded[ids[1]]["wording"].value == pytest.approx(apart)
    assert 0.4 < wording["Chinese"].value < 0.6


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_ratio_is_the_t_interval_of_a_mean(values: list[float]) -> None:
    x = np.array(values)
    row = {"n": len(x), "h": x.sum(), "w": float(len(x)), "hh": (x * x).sum(), "hw": x.sum()}
    found = measures.ratio(row | {"ww": float(len(x))})
    assert found.value == pytest.approx(x.mean(), abs=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_wilson_equals_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for hits, n in ((0, 10), (7, 10), (10, 10), (48, 240)):
        found = measures.wilson(hits, n)
        expected = proportion_confint(hits, n, method="wilson")
        assert (found.low, found.high) == pytest.approx(expected)


# Drift.


@given(st.floats(-10, 10), st.floats(0.01, 5), st.sampled_from([-1, 1]))
@settings(deadline=None)
def test_margin_left(change: float, allowed: float, sign: int) -> None:
    assert margin_left(0.0, sign * allowed) == 1
    assert margin_left(sign * allowed, sign * allowed) == 0
    better = margin_left(-sign * abs(change), sign * allowed)
    assert better >= 1


def test_a_steady_decline_is_foretold() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    found = forecast(list(1.0 - 0.08 * np.arange(12) + noise))
    assert found is not None
    assert found.proven
    assert found.gone_in == math.ceil(found.left / -found.slope)
    assert found.is_alarming


def test_a_flat_course_raises_no_alarm() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(100):
        found = forecast(list(0.6 + rng.normal(0, 0.05, 12)))
        assert found is not None
        alarms += found.is_alarming
    assert alarms <= 6
    assert forecast([1.0, 0.9]) is None


def test_change_points_are_found_and_not_invented() -> None:
    rng = np.random.default_rng(2)
    steady = sum(bool(change_points(rng.normal(size=30))) for _ in range(60))
    assert steady <= 4
    found = [change_points([*rng.normal(size=15), *rng.normal(3, 1, size=15)]) for _ in range(20)]
    hits = sum(any(abs(at - 15) <= 2 for at in points) for points in found)
    assert hits >= 17
    assert change_points([1.0] * 20) == []
    assert change_points([1.0, 2.0]) == []


def test_text_distance() -> None:
    assert text_distance(["hello there"], ["hello there"]) == 0
    assert text_distance(["aaaa"], ["bbbb"]) == pytest.approx(1)
    assert text_distance([], []) == 0
    assert text_distance([""], ["words"]) == 1
    assert chinese_share("你好 ok") == 0.5
    assert chinese_share("123 !") == 0
