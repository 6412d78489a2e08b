"""The figures on pages are the gate's own, for every form of metric, and equal references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard.queries import history, measures, sample_diff
from harness.comparison.evidence import metric_scores
from harness.core.workspace import Workspace
from harness.gate.decision import decide
from harness.gate.intervals import value_with_interval
from harness.statistics.intervals import Estimate
from harness.store.runs import require_run
from harness.store.store import Store
from tests.dashboard.queries.score_builders import DECLARED, SAMPLES, write_runs

NAMES = {f"t/{metric}": says for metric, says in DECLARED.items()}
FORMS = [(seed, clustered) for seed in range(3) for clustered in (False, True)]


def _newest(store: Store) -> list[dict[str, Any]]:
    return history.runs_of(store, "demo-support", history.OUTSIDE)


def _declared(store: Store, run_id: str) -> dict[str, Mapping[str, Any]]:
    run = history.run(store, run_id)
    assert run is not None
    return history.declared(run)


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
    anchor = history.anchor_of(demo, runs)
    assert anchor is not None
    last = runs[-1]["run_id"]
    found = measures.changes(demo, anchor["run_id"], [last], history.declared(anchor))
    shown = history.verdict(demo, runs[-1]["verdict_id"])
    assert shown is not None
    for row in shown.verdict.rows:
        mine = found[last, row.metric, ""]
        assert row.measured.change is not None
        assert mine.value == pytest.approx(row.measured.change, abs=1e-9)
        assert mine.base == pytest.approx(row.measured.anchor, abs=1e-9)
        if row.measured.interval is not None:
            assert (mine.low, mine.high) == pytest.approx(row.measured.interval, abs=1e-9)


def test_slices_add_up(demo: Store) -> None:
    runs = _newest(demo)
    anchor = history.anchor_of(demo, runs)
    assert anchor is not None
    declared, last = history.declared(anchor), runs[-1]["run_id"]
    digests = {"intents": sample_diff.task_digest(anchor, "intents")}
    whole = measures.changes(demo, anchor["run_id"], [last], declared)
    parts = measures.changes(demo, anchor["run_id"], [last], declared, "language", digests)
    name = "intents/json_match"
    halves = [parts[last, name, language] for language in ("en", "zh")]
    assert sum(half.n for half in halves) == whole[last, name, ""].n
    mean = sum(half.value * half.n for half in halves) / sum(half.n for half in halves)
    assert mean == pytest.approx(whole[last, name, ""].value)


@pytest.mark.parametrize(("seed", "clustered"), FORMS)
def test_every_form_is_shown_as_the_gate_has_it(tmp_path: Path, seed: int, clustered: bool) -> None:
    """Value, change and both intervals of all forms: not one figure is the page's own."""
    with Store(Workspace.at(tmp_path)) as store:
        anchor, candidate = write_runs(store, seed, clustered=clustered)
        values = measures.values(store, [anchor, candidate], NAMES)
        changes = measures.changes(store, anchor, [candidate], NAMES)
        sides = [metric_scores(store, require_run(store, run)) for run in (anchor, candidate)]
    verdict = decide(*sides)
    assert {row.metric for row in verdict.rows if row.measured.change is not None} == set(NAMES)
    for run, scores in zip((anchor, candidate), sides, strict=True):
        for name in NAMES:
            shown = values[run, name]
            expected = value_with_interval(scores[name])
            assert (shown.value, shown.low, shown.high) == pytest.approx(expected, rel=1e-12)
    for row in verdict.rows:
        shown, said = changes[candidate, row.metric, ""], row.measured
        assert (shown.value, shown.base) == pytest.approx((said.change, said.anchor), abs=1e-12)
        ends = said.interval or (None, None)
        assert (shown.low, shown.high) == pytest.approx(ends, abs=1e-12)
        assert shown.n == said.n == SAMPLES


def test_values_of_clusters_equal_statsmodels(tmp_path: Path) -> None:
    """The unit is the cluster: an intercept's CR1 interval, weighted by tokens for perplexity."""
    import statsmodels.api as sm

    with Store(Workspace.at(tmp_path)) as store:
        _, run = write_runs(store, 1, clustered=True)
        shown = measures.values(store, [run], NAMES)
        scores = metric_scores(store, require_run(store, run))
    groups = np.arange(SAMPLES) // 3
    for name in ("t/reward", "t/group", "t/pass_at_k", "t/perplexity"):
        own = scores[name]
        values, weights = np.array(list(own.values.values())), np.ones(SAMPLES)
        if own.form == "perplexity":
            assert own.stats is not None
            nats, weights = np.array(list(own.stats.values())).T
            values = nats / weights
        fit = sm.WLS(values, np.ones(SAMPLES), weights=weights).fit(
            cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True
        )
        low, high = fit.conf_int()[0]
        if own.form == "perplexity":
            low, high = math.exp(low), math.exp(high)
        found = shown[run, name]
        assert (found.low, found.high) == pytest.approx((low, high)), name


def test_a_corpus_value_is_that_of_all_samples_together(tmp_path: Path) -> None:
    """Not the mean of the samples' own values; its interval is about the bootstrap's."""
    from scipy.stats import bootstrap

    with Store(Workspace.at(tmp_path)) as store:
        anchor, run = write_runs(store, 2, clustered=False)
        shown = measures.values(store, [run], NAMES, "t/corpus")[run, "t/corpus"]
        change = measures.changes(store, anchor, [run], NAMES)[run, "t/corpus", ""]
        sides = [metric_scores(store, require_run(store, r))["t/corpus"] for r in (anchor, run)]
    tables = []
    for side in sides:
        assert side.stats is not None
        tables.append(np.array(list(side.stats.values())))
    hits, total = tables[1].T
    assert shown.value == pytest.approx(hits.sum() / total.sum())
    assert abs(shown.value - float(np.mean(hits / total))) > 1e-4
    again = bootstrap(
        (hits, total),
        lambda h, t, axis: h.sum(axis) / t.sum(axis),
        paired=True,
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    reach = again.high - again.low
    assert (shown.low, shown.high) == pytest.approx((again.low, again.high), abs=0.1 * reach)
    paired = bootstrap(
        (*tables[0].T, hits, total),
        lambda a, b, c, d, axis: c.sum(axis) / d.sum(axis) - a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    reach = paired.high - paired.low
    assert (change.low, change.high) == pytest.approx((paired.low, paired.high), abs=0.1 * reach)


def test_a_quantile_is_no_mean(tmp_path: Path) -> None:
    with Store(Workspace.at(tmp_path)) as store:
        _, run = write_runs(store, 0, clustered=False)
        shown = measures.values(store, [run], NAMES, "t/quantile")[run, "t/quantile"]
        times = store.query(
            "SELECT value FROM scores WHERE run_id = ? AND metric = 'quantile'", [run]
        )
    assert shown.value == pytest.approx(np.median([row["value"] for row in times]), rel=0.02)


def test_a_perfect_score_may_still_be_luck(tmp_path: Path) -> None:
    """The exact binomial's interval, and none for a change of which no spread was seen."""
    from scipy.stats import binomtest

    with Store(Workspace.at(tmp_path)) as store:
        anchor, run = write_runs(store, 0, clustered=False)
        shown = measures.values(store, [run], NAMES, "t/ceiling")[run, "t/ceiling"]
        change = measures.changes(store, anchor, [run], NAMES)[run, "t/ceiling", ""]
    exact = binomtest(SAMPLES, SAMPLES).proportion_ci(method="exact")
    assert (shown.low, shown.high) == (pytest.approx(exact.low), 1.0)
    assert (change.value, change.low, change.high) == (0.0, None, None)


def test_the_change_of_perplexity_is_fiellers() -> None:
    """A ratio's own interval covers it as promised; documents are few and of unequal length."""
    from harness.gate.intervals import change_with_interval
    from harness.gate.pairing import pair
    from tests.harness.gate.run_builders import documents

    rng = np.random.default_rng(3)
    hits, draws = 0, 1000
    for _ in range(draws):
        tokens = rng.integers(5, 200, 40)
        base = rng.normal(2, 0.3, 40)
        moved = base + 0.02 + rng.normal(0, 0.05, 40)
        paired = pair(documents(base, tokens), documents(moved, tokens))
        _, bounds = change_with_interval(paired, "lower")
        assert bounds is not None
        hits += bounds[0] <= paired.anchor_value * math.expm1(0.02) <= bounds[1]
    assert 0.93 <= hits / draws <= 0.97


def test_changes_by_cluster_speak_of_each_cluster_alone(tmp_path: Path) -> None:
    """Inside one cluster its samples are the unit: Student's paired interval."""
    from scipy.stats import ttest_rel

    with Store(Workspace.at(tmp_path)) as store:
        anchor, run = write_runs(store, 0, clustered=True)
        store.append(
            "samples",
            [
                {"task_digest": "d", "task": "t", "sample_id": f"s{i:03d}", "cluster": f"k{i // 3}"}
                for i in range(SAMPLES)
            ],
        )
        found = measures.changes(store, anchor, [run], NAMES, "cluster", {"t": "d"})
        sides = [metric_scores(store, require_run(store, r))["t/toxicity"] for r in (anchor, run)]
    assert {label for _, _, label in found} == {f"k{i}" for i in range(SAMPLES // 3)}
    ours, theirs = ([side.values[f"s{i:03d}"] for i in range(3)] for side in sides)
    expected = ttest_rel(theirs, ours).confidence_interval()
    change = found[run, "t/toxicity", "k0"]
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))


def test_a_change_in_units_of_its_margin() -> None:
    fell = Estimate(-0.1, -0.15, -0.05, 40, 0.8)
    room = measures.Allowance(margin=0.05, floor=0.0, scale="ratio", change=-0.03)
    seen = measures.in_margins(fell, "higher", room)
    assert (seen.at, seen.low, seen.high) == pytest.approx((-2.5, -3.75, -1.25))
    assert seen.is_sure
    lower = measures.in_margins(fell, "lower", None)
    assert (lower.at, lower.low, lower.high) == pytest.approx((2.5, 1.25, 3.75))
    fixed = measures.Allowance(margin=None, floor=0.2, scale="interval", change=-0.2)
    assert measures.in_margins(fell, "higher", fixed).at == pytest.approx(-0.5)
    nothing = Estimate(0.3, 0.1, 0.5, 40, 0.0)
    rose = measures.in_margins(nothing, "higher", room)
    assert (rose.at, rose.low, rose.is_sure) == (float("inf"), float("inf"), True)
    bare = measures.in_margins(Estimate(0.0, None, None, 40, 0.8), "higher", None)
    assert (bare.at, bare.low, bare.is_sure) == (0.0, None, False)
