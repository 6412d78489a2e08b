"""Checkpoints and lines: adding, promoting, rolling back, verifying and pruning."""

import json
import shutil

import pytest

from harness.core import files as artifacts
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.bundle import export_run
from harness.store.store import Store

LINE = "support-bot"


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


@pytest.fixture
def store(workspace):
    with Store(workspace) as opened:
        yield opened


@pytest.fixture
def add(registry, tmp_path):
    """Adds a small model made of the given word, and returns its digest."""

    def make(word, **provenance):
        folder = tmp_path / f"model-{word}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(word * 10)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "optimizer.pt").write_text("not the model")
        return registry.add(folder, **provenance)

    return make


@pytest.fixture
def decide(store):
    """Stores a verdict and returns its id."""

    def make(name, outcome="pass", **more):
        row = {"verdict_id": name, "outcome": outcome, "headline": f"it is {outcome}", **more}
        store.append("verdicts", [row])
        return name

    return make


def test_the_same_bytes_are_one_checkpoint(registry, workspace, add):
    digest = add("a", training_id="t", step=8, run_id="r")
    assert add("a") == digest
    assert add("b") != digest
    folder = registry.path(digest[:8])
    assert folder == workspace.checkpoints / digest
    assert artifacts.digest_of_folder(folder) == digest
    assert artifacts.verify(folder) == []
    assert not (folder / "optimizer.pt").exists()


def test_adding_the_same_again_stores_one_event(registry, store, add):
    for _ in range(2):
        digest = add("a", run_id="r")
    told = store.query("SELECT digest, run_id FROM checkpoints WHERE event = 'added'")
    assert told == [{"digest": digest, "run_id": "r"}]


def test_a_damaged_checkpoint_is_set_aside_when_its_bytes_come_again(registry, workspace, add):
    digest = add("a")
    (registry.path(digest) / "adapter_config.json").write_text("{ }")
    assert add("a") == digest
    assert artifacts.verify(registry.path(digest)) == []
    assert (workspace.checkpoints / artifacts.SET_ASIDE / f"{digest}.1").is_dir()


def test_a_training_s_committed_folder_shares_its_bytes(registry, workspace):
    workspace.ensure()
    with artifacts.staged(workspace.trainings / "t" / "step-8") as staging:
        (staging / "model.safetensors").write_text("weights")
    place = registry.path(registry.add(workspace.trainings / "t" / "step-8"))
    own = workspace.trainings / "t" / "step-8" / "model.safetensors"
    assert (place / "model.safetensors").samefile(own)


def test_the_first_promotion_needs_no_verdict_and_every_other_does(registry, add, decide):
    first, second = add("a"), add("b")
    assert registry.promoted(LINE) is None
    assert registry.promote(LINE, first).number == 1
    with pytest.raises(UserError, match="needs a verdict"):
        registry.promote(LINE, second)
    with pytest.raises(UserError, match="is fail, not pass"):
        registry.promote(LINE, second, verdict_id=decide("v-fail", "fail"))
    with pytest.raises(UserError, match="no verdict"):
        registry.promote(LINE, second, verdict_id="v-unknown")
    assert registry.promoted(LINE).digest == first
    promoted = registry.promote(LINE, second, verdict_id=decide("v-pass"), actor="ada")
    assert (promoted.digest, promoted.verdict_id, promoted.actor) == (second, "v-pass", "ada")


def test_a_proven_improvement_may_be_promoted(registry, add, decide):
    registry.promote(LINE, add("a"))
    verdict = decide("v", "inconclusive", detail={"promotable": True})
    assert registry.promote(LINE, add("b"), verdict_id=verdict).number == 2


def test_an_override_is_recorded_for_good(registry, store, add, decide):
    registry.promote(LINE, add("a"))
    registry.promote(
        LINE, add("b"), verdict_id=decide("v", "fail"), override="customer asked", actor="ada"
    )
    registry.promote(LINE, add("c"), verdict_id=decide("w"))
    assert [v.override for v in registry.history(LINE)] == [None, "customer asked", None]
    told = store.query("SELECT reason, actor, verdict FROM line_history ORDER BY seq")
    assert told[1] == {"reason": "customer asked", "actor": "ada", "verdict": "fail"}


def test_promoting_what_is_promoted_changes_nothing(registry, add):
    digest = add("a")
    registry.promote(LINE, digest)
    assert registry.promote(LINE, digest).number == 1
    assert len(registry.history(LINE)) == 1


def test_a_decision_against_an_older_one_is_refused(registry, add):
    first, second, third = add("a"), add("b"), add("c")
    registry.promote(LINE, first)
    registry.promote(LINE, second, override="x", expect=first)
    with pytest.raises(UserError, match="changed meanwhile"):
        registry.promote(LINE, third, override="x", expect=first)
    assert registry.promoted(LINE).digest == second


def test_other_programs_can_follow_the_alias_and_the_pointer(registry, workspace, add):
    digest = add("a")
    registry.promote(LINE, digest, reason="it is good")
    line = workspace.lines / LINE
    assert (line / "blessed" / "adapter_model.safetensors").read_text() == "a" * 10
    pointer = json.loads((line / "blessed.json").read_text())
    assert pointer["digest"] == digest
    assert (line / pointer["path"]).resolve() == workspace.checkpoints / digest
    assert pointer["reason"] == "it is good"


def test_a_workspace_can_be_moved(registry, workspace, add, tmp_path):
    digest = add("a")
    registry.promote(LINE, digest)
    moved = Workspace.at(shutil.move(workspace.home, tmp_path / "moved"))
    with Store(moved) as store:
        assert Registry(moved, store).verify() == []
        assert Registry(moved, store).promoted(LINE).path == moved.checkpoints / digest


def test_roll_backs_go_further_and_further_back(registry, store, add):
    a, b, c = (add(word) for word in "abc")
    for digest in (a, b, c):
        registry.promote(LINE, digest, override="x", run_id=f"run-{digest[:4]}")
    assert registry.rollback(LINE, reason="users complain").digest == b
    assert registry.rollback(LINE).digest == a
    with pytest.raises(UserError, match="no version before"):
        registry.rollback(LINE)
    assert registry.rollback(LINE, to=c[:10]).digest == c
    assert registry.rollback(LINE).digest == b
    history = registry.history(LINE)
    assert [v.number for v in history] == [1, 2, 3, 4, 5, 6, 7]
    assert [v.digest for v in history] == [a, b, c, b, a, c, b]
    assert history[3].run_id == f"run-{b[:4]}"
    told = store.query("SELECT event, reason FROM line_history ORDER BY seq")
    assert [row["event"] for row in told] == ["promoted"] * 3 + ["rolled_back"] * 4
    assert told[3]["reason"] == "users complain"


def test_a_promotion_after_a_roll_back_returns_to_what_was_rolled_back_to(registry, add):
    a, b, c = (add(word) for word in "abc")
    registry.promote(LINE, a)
    registry.promote(LINE, b, override="x")
    registry.rollback(LINE)
    registry.promote(LINE, c, override="x")
    assert registry.rollback(LINE).digest == a


def test_a_rollback_without_a_target_is_refused(registry, add):
    with pytest.raises(UserError, match="nothing was ever promoted"):
        registry.rollback(LINE)
    first, second = add("a"), add("b")
    registry.promote(LINE, first)
    registry.promote(LINE, second, override="x")
    with pytest.raises(UserError, match="was never promoted"):
        registry.rollback(LINE, to="abcdef0123")
    (registry.path(first) / "adapter_model.safetensors").write_text("broken")
    with pytest.raises(UserError, match="can't be gone back to"):
        registry.rollback(LINE)
    assert registry.promoted(LINE).digest == second


def test_names_that_no_folder_can_have_and_broken_checkpoints_are_refused(registry, add, tmp_path):
    digest = add("a")
    for name in ("", "../up", "a/b", ".hidden", "x" * 101):
        with pytest.raises(UserError, match="name of a line"):
            registry.promote(name, digest)
    with pytest.raises(UserError, match="no checkpoint"):
        registry.promote(LINE, "0123456789")
    with pytest.raises(UserError, match="no such folder"):
        registry.add(tmp_path / "nowhere")
    (registry.path(digest) / "adapter_model.safetensors").write_text("broken")
    with pytest.raises(UserError, match="broken"):
        registry.promote(LINE, digest)
    assert registry.promoted(LINE) is None


def test_verify_names_what_is_wrong(registry, workspace, add):
    digest = add("a")
    registry.promote(LINE, digest)
    assert registry.verify() == []
    assert registry.verify(LINE) == []
    assert registry.verify("other") == ["other: nothing was ever promoted"]
    weights = registry.path(digest) / "adapter_model.safetensors"
    weights.write_text("b" * 10)
    assert any("bytes have changed" in problem for problem in registry.verify(LINE))
    weights.write_text("a" * 10)
    alias = workspace.lines / LINE / "blessed"
    alias.unlink()
    assert registry.verify(LINE) == [f"{LINE}: `blessed` leads nowhere"]
    alias.symlink_to("../../checkpoints")
    assert registry.verify(LINE) == [f"{LINE}: `blessed` and `blessed.json` name different folders"]


def test_verify_names_a_difference_from_the_committed_baseline(registry, store, add, tmp_path):
    baselines = tmp_path / "baselines"
    for run in ("r1", "r2"):
        store.append("runs", [{"run_id": run, "protocol": {}}])
    registry.promote(LINE, add("a"), run_id="r1")
    export_run(store, "r1", baselines / LINE)
    assert registry.verify(LINE, baselines=baselines) == []
    export_run(store, "r2", baselines / LINE)
    [problem] = registry.verify(LINE, baselines=baselines)
    assert "r2" in problem
    assert "r1" in problem


def test_prune_lists_first_and_keeps_what_is_referred_to(registry, store, add, decide, tmp_path):
    store.append("trainings", [{"training_id": "t-running"}, {"training_id": "t-done"}])
    store.append("training_events", [{"training_id": "t-done", "event": "finished"}])
    done = add("done", training_id="t-done", step=8)
    running = add("running", training_id="t-running", step=8)
    anchor = add("anchor", run_id="r-anchor")
    decide("v", anchor_run="r-anchor")
    baseline = add("baseline", run_id="r-base")
    store.append("runs", [{"run_id": "r-base", "protocol": {}}])
    export_run(store, "r-base", tmp_path / "baselines" / LINE)
    promoted = [add(word) for word in "abcd"]
    for digest in promoted:
        registry.promote(LINE, digest, override="x")
    waiting = add("waiting")

    shown = registry.prune(baselines=tmp_path / "baselines")
    assert {digest for digest, _ in shown.freed} == {promoted[0], done}
    assert shown.bytes > 0
    assert registry.path(done).exists()

    freed = registry.prune(dry_run=False, baselines=tmp_path / "baselines")
    assert freed == shown
    for digest in (*promoted[1:], anchor, running, baseline, waiting):
        assert artifacts.verify(registry.path(digest)) == []
    with pytest.raises(UserError):
        registry.path(done)
    told = store.query("SELECT digest FROM checkpoints WHERE event = 'pruned'")
    assert {row["digest"] for row in told} == {promoted[0], done}
    with pytest.raises(UserError, match="at least 1"):
        registry.prune(keep=0)


def test_a_version_without_an_event_gets_one_later(registry, store, add, monkeypatch):
    digest = add("a")
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "reconcile", lambda self, line: None)
        registry.promote(LINE, digest)
    assert store.query("SELECT * FROM line_history") == []
    registry.promote(LINE, add("b"), override="x")
    told = store.query("SELECT digest FROM line_history ORDER BY seq")
    assert len(told) == 2
    assert told[0]["digest"] == digest
