"""What a version is compared with: the one before, its own first conversations, an anchor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from harness.core.errors import UserError
from harness.core.types import Score, ScoreOutcome
from harness.registry.registry import Registry
from harness.statistics.sequential import Moments, fixed_lower_bound
from harness.store.runs import save_scores
from harness.store.store import Store
from harness.watch.monitor.look import check
from harness.watch.monitor.policy import SignalPolicy
from tests.harness.watch.look_builders import LINE, POLICY, START, Promote, later, serve, signal


def test_a_reference_that_is_too_small_for_the_margin_is_said_to_be(
    store: Store, registry: Registry, promote: Promote
) -> None:
    end = serve(store, promote("a"), START, 800, seed=1, every_s=20)
    few = POLICY.changed(conversations=100)
    verdict = check(store, registry, LINE, few, now=later(end))
    assert "too small to show a margin" in signal(verdict, "completion").reason


def test_a_new_version_is_held_to_the_one_before(
    store: Store, registry: Registry, promote: Promote
) -> None:
    old = promote("a")
    end = serve(store, old, START, 1000, seed=1)
    new = promote("b")
    end = serve(store, new, later(end), 400, seed=2, ends=0.4)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.outcome == "fail"
    assert verdict.reference_digest == old
    assert verdict.model_digest == new


def test_after_a_roll_back_the_version_that_failed_is_no_reference(
    store: Store, registry: Registry, promote: Promote
) -> None:
    good = promote("a")
    bad = promote("b")
    end = serve(store, bad, START, 400, seed=1, ends=0.2)
    registry.rollback(LINE)
    end = serve(store, good, later(end), 100, seed=2)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.model_digest == good
    assert verdict.detail["waiting"] == {"have": 100, "need": 300}


def test_the_anchor_s_scores_are_a_reference_by_their_bound(
    store: Store, registry: Registry, promote: Promote
) -> None:
    own = SignalPolicy(source="anchor", metric="chat/done")
    policy = POLICY.changed(signals={"toxicity": False, "completion": own})
    promote("a")
    with pytest.raises(UserError, match="never scored"):
        check(store, registry, LINE, policy)


def test_an_anchor_s_clusters_are_its_unit(
    store: Store, registry: Registry, tmp_path: Path
) -> None:
    """60 samples in 30 clusters that always agree: worth 30 answers, not 60."""
    (tmp_path / "adapter_model.safetensors").write_text("scored")
    (tmp_path / "adapter_config.json").write_text("{}")
    digest = registry.add(tmp_path, run_id="r1")
    registry.promote(LINE, digest, override="for the test")
    scored = ScoreOutcome.SCORED
    scores = [
        Score("r1", "chat", "done", f"s{i}", 0, 0, scored, float(i // 2 < 24), cluster=f"c{i // 2}")
        for i in range(60)
    ]
    save_scores(store, scores, signatures={"chat/done": "done|v:1"})
    own = SignalPolicy(source="anchor", metric="chat/done")
    policy = POLICY.changed(signals={"toxicity": False, "completion": own})
    verdict = check(store, registry, LINE, policy)
    reference = verdict.state["references"]["completion"]
    assert (reference["source"], reference["n"], reference["mean"]) == ("anchor", 30, 0.8)
    alpha = policy.reference_alpha / 8
    bound = fixed_lower_bound(Moments(30, 24, 24), alpha)
    assert signal(verdict, "completion").reference == pytest.approx(0.95 * bound)
    other = own.changed(metric="chat/other")
    with pytest.raises(UserError, match="no scores of chat/other"):
        check(store, registry, LINE, policy.changed(signals={"completion": other}))


def test_slow_answers_fail_a_latency_that_is_required(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    slow = SignalPolicy(required=True)
    policy = POLICY.changed(signals={"toxicity": False, "latency_p95": slow})
    end = serve(store, digest, START, 1200, seed=1)
    fine = check(store, registry, LINE, policy, now=later(end))
    assert signal(fine, "latency_p95").outcome == "pass"
    end = serve(store, digest, later(end), 400, seed=2, latency_s=9.0)
    verdict = check(store, registry, LINE, policy, now=later(end))
    assert [s.signal for s in verdict.failing()] == ["latency_p95"]


@pytest.mark.long
def test_answers_on_another_subject_are_far_from_the_reference(
    store: Store, registry: Registry, promote: Promote
) -> None:
    """With the embedded model; and what was embedded once is not embedded again."""
    digest = promote("a")
    drift = SignalPolicy(share=1.0, required=True)
    signals: dict[str, SignalPolicy | Literal[False]] = {
        "toxicity": False,
        "embedding_drift": drift,
    }
    policy = POLICY.changed(conversations=400, signals=signals)
    parcels = ("Your parcel arrives on Monday.", "The courier has your parcel.", "It was sent.")
    end = serve(store, digest, START, 450, seed=1, response=lambda i: parcels[i % 3])
    before = signal(check(store, registry, LINE, policy, now=later(end)), "embedding_drift")
    assert before.value < before.reference < 1
    soup = "Simmer the onions with butter, then add the stock and salt."
    end = serve(store, digest, later(end), 300, seed=2, response=soup)
    verdict = check(store, registry, LINE, policy, now=later(end))
    assert "embedding_drift" in [s.signal for s in verdict.failing()]
    kept = store.query("SELECT signature FROM observation_signals WHERE signal='embedding_drift'")
    assert len(kept) == 750
    assert len({row["signature"] for row in kept}) == 1
