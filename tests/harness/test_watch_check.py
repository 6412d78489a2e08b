"""`check`: what a served model is found to be, look after look, from what the store holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.scripted import ScriptedBackend
from harness.errors import UserError
from harness.records import Score, ScoreOutcome
from harness.registry import Registry
from harness.runs import save_scores
from harness.statistics.sequential import Moments, fixed_lower_bound
from harness.store import Store
from harness.watch.meaning import ask
from harness.watch.policy import SignalPolicy, WatchPolicy
from harness.watch.signals import Text
from harness.watch.state import check, last
from harness.watch.verdict import WatchVerdict
from harness.workspace import Workspace
from tests.harness.worlds import Ratchet

LINE = "bot"
START = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = WatchPolicy(conversations=300, settle_s=60, signals={"toxicity": None})
Promote = Callable[[str], str]


@pytest.fixture
def registry(workspace: Workspace, store: Store) -> Registry:
    return Registry(workspace, store)


@pytest.fixture
def promote(registry: Registry, tmp_path: Path) -> Promote:
    def make(word: str) -> str:
        folder = tmp_path / f"model-{word}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(word * 10)
        (folder / "adapter_config.json").write_text("{}")
        digest = registry.add(folder)
        registry.promote(LINE, digest, override="for the test")
        return digest

    return make


def serve(
    store: Store,
    digest: str | None,
    begin: datetime,
    n: int,
    *,
    seed: int,
    ends: float = 0.8,
    every_s: float = 30.0,
    **more: Any,
) -> datetime:
    """`n` conversations of one answer each, `every_s` apart; returns when the last one came."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, well in enumerate(rng.random(n) < ends):
        at = begin + timedelta(seconds=every_s * i)
        row = {
            "observation_id": f"{seed}-{i}",
            "line": LINE,
            "model_digest": digest,
            "prompt": "What time is it?",
            "response": "It is noon.",
            "latency_s": float(rng.gamma(4, 0.25)),
            "output_tokens": 12,
            "outcome": "completed" if well else "abandoned",
            "observed_at": at,
            "received_at": at,
        }
        rows.append(row | {k: v(i) if callable(v) else v for k, v in more.items()})
    store.append("observations", rows)
    return rows[-1]["observed_at"]


def signal(verdict: WatchVerdict, name: str) -> Any:
    return next(s for s in verdict.signals if s.signal == name)


def later(at: datetime) -> datetime:
    return at + timedelta(minutes=5)


def test_a_line_without_a_promotion_has_nothing_to_watch(store: Store, registry: Registry) -> None:
    with pytest.raises(UserError, match="nothing was ever promoted"):
        check(store, registry, LINE, POLICY)


def test_until_the_reference_is_whole_nothing_is_decided(
    store: Store, registry: Registry, promote: Promote
) -> None:
    end = serve(store, promote("a"), START, 100, seed=1)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.outcome == "inconclusive"
    assert verdict.detail["waiting"] == {"have": 100, "need": 300}
    assert signal(verdict, "completion").reference is None


def test_a_healthy_model_passes_and_a_worse_one_fails(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    policy = replace(POLICY, conversations=800)
    end = serve(store, digest, START, 3700, seed=1, ends=0.95)
    healthy = check(store, registry, LINE, policy, now=later(end))
    assert healthy.outcome == "pass", healthy.signals
    completion = signal(healthy, "completion")
    assert completion.low <= 0.95 <= completion.high
    assert completion.reference < 0.95 * 0.95 < completion.pass_limit
    end = serve(store, digest, later(end), 400, seed=2, ends=0.5)
    fallen = check(store, registry, LINE, policy, now=later(end))
    assert fallen.outcome == "fail"
    assert [s.signal for s in fallen.failing()] == ["completion"]
    assert signal(fallen, "errors").outcome == "pass"
    assert "shown to be below" in signal(fallen, "completion").reason


def test_a_failure_stands_until_the_evidence_after_it_passes(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    policy = replace(POLICY, conversations=800)
    end = serve(store, digest, START, 900, seed=1, ends=0.95)
    end = serve(store, digest, later(end), 200, seed=2, ends=0.3)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "fail"
    end = serve(store, digest, later(end), 50, seed=3, ends=0.95)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "fail"
    end = serve(store, digest, later(end), 3500, seed=4, ends=0.95, every_s=5)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "pass"


def _comparable(verdict: WatchVerdict) -> Any:
    state = {k: v for k, v in verdict.state.items() if k != "looks"}
    for track in state["tracks"].values():
        track["wealth"] = [None if w is None else round(w, 6) for w in track["wealth"]]
    return json.loads(json.dumps(state), parse_float=lambda text: round(float(text), 6))


def test_many_looks_leave_what_one_look_leaves(
    tmp_path: Path, promote: Promote, store: Store, registry: Registry
) -> None:
    """Conversations of several answers, some longer than they are waited for; two policies that
    differ in name only, so that both begin from nothing over the same observations."""
    digest = promote("a")
    often = POLICY
    once = replace(POLICY, signals={**POLICY.signals, "json_valid": None})
    at = START
    for part in range(4):
        end = serve(
            store,
            digest,
            at,
            200,
            seed=part,
            every_s=11,
            conversation_id=lambda i, part=part: f"{part}-{i // 3}" if i % 5 else None,
        )
        check(store, registry, LINE, often, now=end)
        check(store, registry, LINE, often, now=end + timedelta(seconds=7))
        at = end + timedelta(seconds=3)
    done = later(end)
    first, second = (check(store, registry, LINE, p, now=done) for p in (often, once))
    assert first.state["looks"] > second.state["looks"]
    assert first.state["tracks"]["completion"]["wealth"]
    assert _comparable(first) == _comparable(second)


def test_a_reference_that_is_too_small_for_the_margin_is_said_to_be(
    store: Store, registry: Registry, promote: Promote
) -> None:
    end = serve(store, promote("a"), START, 800, seed=1, every_s=20)
    few = replace(POLICY, conversations=100)
    verdict = check(store, registry, LINE, few, now=later(end))
    assert "too small to show a margin" in signal(verdict, "completion").reason


def test_a_conversation_counts_once(store: Store, registry: Registry, promote: Promote) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 900, seed=1, conversation_id=lambda i: f"c{i // 3}")
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.detail["conversations"] == 300
    assert verdict.observations == 900


def test_late_and_doubled_observations_are_counted_and_change_nothing(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 400, seed=1, conversation_id=lambda i: f"c{i}")
    before = check(store, registry, LINE, POLICY, now=later(end))
    serve(store, digest, START, 400, seed=1, conversation_id=lambda i: f"c{i}")
    assert check(store, registry, LINE, POLICY, now=later(end)).watch_id == before.watch_id
    hours = end + timedelta(hours=3)
    serve(store, digest, hours, 50, seed=2, ends=0, conversation_id=lambda i: f"c{i}")
    after = check(store, registry, LINE, POLICY, now=later(hours + timedelta(hours=1)))
    assert after.detail["late"] == 50
    assert after.detail["conversations"] == before.detail["conversations"]


def test_feedback_that_comes_later_belongs_to_its_conversation(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    policy = replace(POLICY, settle_s=600)
    end = serve(store, digest, START, 300, seed=1)
    came = START + timedelta(seconds=100)
    row = {"observation_id": "f", "line": LINE, "about": "1-0", "thumb": -1}
    store.append("observations", [row | {"observed_at": came, "received_at": came}])
    verdict = check(store, registry, LINE, policy, now=end + timedelta(hours=1))
    assert verdict.detail["conversations"] == 300
    assert verdict.state["references"]["satisfaction"]["n"] == 1


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
    policy = replace(POLICY, signals={"toxicity": None, "completion": own})
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
    policy = replace(POLICY, signals={"toxicity": None, "completion": own})
    verdict = check(store, registry, LINE, policy)
    reference = verdict.state["references"]["completion"]
    assert (reference["source"], reference["n"], reference["mean"]) == ("anchor", 30, 0.8)
    alpha = policy.reference_alpha / 8
    bound = fixed_lower_bound(Moments(30, 24, 24), alpha)
    assert signal(verdict, "completion").reference == pytest.approx(0.95 * bound)
    other = replace(own, metric="chat/other")
    with pytest.raises(UserError, match="no scores of chat/other"):
        check(store, registry, LINE, replace(policy, signals={"completion": other}))


def test_two_that_look_at_once_count_nothing_twice(
    workspace: Workspace, store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 500, seed=1)
    with Store(workspace) as other:
        appended: list[Any] = []

        class Late(Store):
            """Whose verdict reaches the journal only after the other's."""

            def append(self, table: str, rows: Any) -> None:
                appended.append((table, rows))

        slow = Late(workspace)
        check(slow, Registry(workspace, slow), LINE, POLICY, now=later(end))
        check(other, Registry(workspace, other), LINE, POLICY, now=later(later(end)))
        slow.close()
    for table, rows in appended:
        store.append(table, rows)
    end = serve(store, digest, later(end), 100, seed=2)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.detail["conversations"] == 600


def test_a_look_that_is_killed_never_was(
    store: Store, registry: Registry, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 500, seed=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            check(store, registry, LINE, POLICY, now=later(end))
    assert last(store, LINE, digest, POLICY) is None
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    assert verdict.detail["conversations"] == 500


def test_a_verdict_comes_back_from_the_store_as_it_went_in(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 700, seed=1)
    end = serve(store, digest, later(end), 300, seed=2, ends=0.3)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    found = last(store, LINE, digest, POLICY)
    assert found is not None
    assert found.signals == verdict.signals
    assert found.state == json.loads(json.dumps(verdict.state))


@pytest.mark.long
def test_costly_signals_are_kept_and_chosen_by_the_observation_s_id(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    half = SignalPolicy(share=0.5)
    policy = replace(POLICY, signals={"toxicity": half})
    end = serve(store, digest, START, 400, seed=1)
    check(store, registry, LINE, policy, now=later(end))
    rows = store.query("SELECT observation_id, value FROM observation_signals")
    assert 150 < len(rows) < 250
    again = replace(policy, alpha_per_day=0.002)
    check(store, registry, LINE, again, now=later(end))
    assert store.query("SELECT observation_id, value FROM observation_signals") == rows


def test_slow_answers_fail_a_latency_that_is_required(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    slow = SignalPolicy(required=True)
    policy = replace(POLICY, signals={"toxicity": None, "latency_p95": slow})
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
    signals: dict[str, SignalPolicy | None] = {"toxicity": None, "embedding_drift": drift}
    policy = replace(POLICY, conversations=400, signals=signals)
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


def test_a_judge_s_verdict_is_read_strictly() -> None:
    backend = ScriptedBackend({"good": "Fine. [[YES]]", "bad": "[[NO]]", "vague": "[[YES]] or so"})
    texts = [Text("q", word) for word in ("good", "bad", "vague", "silent")]
    assert ask(backend, texts, "Be kind.") == [1.0, 0.0, None, None]
    assert backend.calls == 4


def test_the_verb_says_the_verdict_in_its_exit_code_and_as_json(
    ratchet: Ratchet, home: Workspace, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    (tmp_path / "adapter_model.safetensors").write_text("word")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "watch.yaml").write_text("conversations: 300\nsignals: {toxicity: false}\n")
    with Store(home.ensure()) as store:
        registry = Registry(home, store)
        digest = registry.add(tmp_path)
        registry.promote(LINE, digest, override="for the test")
        serve(store, digest, now - timedelta(hours=9), 350, seed=1)
    check_it = ("watch", "check", "--policy", tmp_path / "watch.yaml")
    code, said = ratchet(*check_it)
    assert code == 2
    assert "INCONCLUSIVE" in said
    assert "nothing failed; not shown yet:" in said
    with Store(home) as store:
        serve(store, digest, now - timedelta(hours=6), 300, seed=2, ends=0.1)
    code, said = ratchet(*check_it)
    assert code == 1
    assert "completion shown to be worse than the margin allows" in said
    code, said = ratchet("watch", "status", LINE, "--json")
    assert code == 0
    assert json.loads(said)["outcome"] == "fail"
