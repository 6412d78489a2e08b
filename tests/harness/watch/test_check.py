"""`check`: what a served model is found to be, look after look, from what the store holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.backends.scripted import ScriptedBackend
from harness.comparison.line_facts import uncounted
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from harness.watch.monitor.look import check, last
from harness.watch.monitor.model_signals import ask
from harness.watch.monitor.policy import SignalPolicy
from harness.watch.monitor.text import Text
from harness.watch.monitor.verdict import WatchVerdict
from tests.harness.suite_builders import Ratchet
from tests.harness.watch.look_builders import LINE, POLICY, START, Promote, later, serve, signal


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
    policy = POLICY.changed(conversations=800)
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
    policy = POLICY.changed(conversations=800)
    end = serve(store, digest, START, 900, seed=1, ends=0.95)
    end = serve(store, digest, later(end), 200, seed=2, ends=0.3)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "fail"
    end = serve(store, digest, later(end), 50, seed=3, ends=0.95)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "fail"
    end = serve(store, digest, later(end), 3500, seed=4, ends=0.95, every_s=5)
    assert check(store, registry, LINE, policy, now=later(end)).outcome == "pass"


def test_the_numbers_of_an_alarm_never_change_afterwards(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    policy = POLICY.changed(conversations=800)
    end = serve(store, digest, START, 900, seed=1, ends=0.95)
    end = serve(store, digest, later(end), 200, seed=2, ends=0.3)
    at_once = signal(check(store, registry, LINE, policy, now=later(end)), "completion")
    assert at_once.at_alarm is not None
    # Of what came up to the alarm, and not of the few after it.
    assert 100 < at_once.at_alarm.n < 300
    assert at_once.at_alarm.n + at_once.n <= 300
    assert at_once.at_alarm.low <= at_once.at_alarm.value <= at_once.at_alarm.high
    assert f"over {at_once.at_alarm.n:,} conversations" in at_once.reason
    assert at_once.shown is at_once.at_alarm
    end = serve(store, digest, later(end), 50, seed=3, ends=0.2)
    still = signal(check(store, registry, LINE, policy, now=later(end)), "completion")
    assert still.outcome == "fail"
    assert (still.at_alarm, still.reason) == (at_once.at_alarm, at_once.reason)
    end = serve(store, digest, later(end), 3500, seed=4, ends=0.95, every_s=5)
    well = signal(check(store, registry, LINE, policy, now=later(end)), "completion")
    assert (well.outcome, well.at_alarm) == ("pass", None)


def test_a_state_of_an_older_version_has_no_numbers_of_its_alarm(
    store: Store, registry: Registry, promote: Promote
) -> None:
    digest = promote("a")
    policy = POLICY.changed(conversations=800)
    end = serve(store, digest, START, 900, seed=1, ends=0.95)
    end = serve(store, digest, later(end), 200, seed=2, ends=0.3)
    row = check(store, registry, LINE, policy, now=later(end)).row()
    for track in row["state"]["tracks"].values():
        del track["alarmed_at"], track["evidence"]
    store.append("watch_verdicts", [row | {"watch_id": "older"}])
    end = serve(store, digest, later(end), 10, seed=3, ends=0.3)
    found = signal(check(store, registry, LINE, policy, now=later(end)), "completion")
    assert found.outcome == "fail"
    assert found.reason


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
    once = POLICY.changed(signals={**POLICY.signals, "json_valid": False})
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
    policy = POLICY.changed(settle_s=600)
    end = serve(store, digest, START, 300, seed=1)
    came = START + timedelta(seconds=100)
    row = {"observation_id": "f", "line": LINE, "about": "1-0", "thumb": -1}
    store.append("observations", [row | {"observed_at": came, "received_at": came}])
    verdict = check(store, registry, LINE, policy, now=end + timedelta(hours=1))
    assert verdict.detail["conversations"] == 300
    assert verdict.state["references"]["satisfaction"]["n"] == 1


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


def test_a_look_that_is_killed_leaves_nothing_behind(
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
    policy = POLICY.changed(signals={"toxicity": half})
    end = serve(store, digest, START, 400, seed=1)
    check(store, registry, LINE, policy, now=later(end))
    rows = store.query("SELECT observation_id, value FROM observation_signals")
    assert 150 < len(rows) < 250
    again = policy.changed(alpha_per_day=0.002)
    check(store, registry, LINE, again, now=later(end))
    assert store.query("SELECT observation_id, value FROM observation_signals") == rows


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
    code, said = ratchet("watch", "status", "--json")
    assert (code, json.loads(said)) == (2, {"line": LINE, "outcome": None})
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
    assert code == 1
    assert json.loads(said)["outcome"] == "fail"


def test_what_came_in_and_still_settles_is_said(
    ratchet: Ratchet, home: Workspace, tmp_path: Path
) -> None:
    """Right after the intake nothing counts yet, and a conversation that goes on is no new one."""
    now = datetime.now(UTC)
    (tmp_path / "adapter_model.safetensors").write_text("word")
    (tmp_path / "adapter_config.json").write_text("{}")
    with Store(home.ensure()) as store:
        registry = Registry(home, store)
        digest = registry.add(tmp_path)
        registry.promote(LINE, digest, override="for the test")
        serve(store, digest, now - timedelta(seconds=30), 20, seed=1, every_s=1)
    code, said = ratchet("watch", "check")
    assert code == 2
    assert "0 conversations, 0 observations; 20 more conversations are not counted yet;" in said
    _, said = ratchet("status", LINE)
    assert "No conversation is counted yet" in said
    assert "20 conversations came in that the last look has not counted" in said
    with Store(home) as store:
        old = now - timedelta(hours=2)
        serve(store, digest, old, 5, seed=2, conversation_id=lambda i: f"old-{i}")
        check(store, Registry(home, store), LINE, now=now + timedelta(hours=1))
        assert uncounted(store) == {}
        serve(store, digest, now, 3, seed=3, conversation_id=lambda i: f"old-{i}")
        serve(store, digest, now, 4, seed=4, conversation_id="one talk")
        serve(store, "d" * 64, now, 6, seed=5)
        assert uncounted(store) == {LINE: 1}, "what goes on, and another version, are none"
    _, said = ratchet("watch", "status", LINE, "--json")
    assert json.loads(said)["uncounted"] == 1
