"""A training as a tree, and which verdict a roll back stands on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.queries import history
from dashboard.queries.checkpoint_tree import failing, grown, tree
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.report import zh_verdict
from harness.store.store import Store
from tests.dashboard.app.stories import happened, judged, opened, scored, text_of

RIGHT, WRONG, HALF = [1.0] * 60, [0.0] * 60, [1.0, 0.0] * 30


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    with Store(Workspace.at().ensure()) as store:
        yield store


def _played(store: Store) -> tuple[str, str]:
    """Step 20 is undecided against the anchor and fails against the best; the second try passes."""
    store.append("trainings", [{"training_id": "t", "recipe": "r", "line": "bot", "config": {}}])
    near = [1.0] * 57 + [0.0] * 3
    scored(store, "s0", {"match": near}, training="t", step=0)
    scored(store, "s10", {"match": RIGHT}, training="t", step=10)
    scored(store, "bad", {"match": [1.0] * 56 + [0.0] * 4}, training="t", step=20)
    scored(store, "good", {"match": RIGHT}, training="t", step=20)
    unsure = judged(store, "s0", "bad", "anchor", "t", 20)
    scored(store, "worse", {"match": HALF}, training="t", step=20)
    failed = judged(store, "s10", "worse", "crest", "t", 20)
    passed = judged(store, "s10", "good", "crest", "t", 20)
    said = store.query("SELECT verdict_id, outcome FROM verdicts")
    assert {row["verdict_id"]: row["outcome"] for row in said} == {
        unsure: "inconclusive",
        failed: "fail",
        passed: "pass",
    }
    happened(
        store,
        "t",
        ("checkpoint", 0, 1, {}),
        ("checkpoint", 10, 1, {}),
        ("crest", 10, 1, {"why": "better"}),
        ("checkpoint", 20, 1, {}),
        ("verdict", 20, 1, {"outcome": "inconclusive", "verdict_id": unsure}),
        ("verdict", 20, 1, {"outcome": "fail", "verdict_id": failed}),
        ("rolled_back", 20, 1, {"to": 10, "remedy": "skip_data", "verdicts": [unsure, failed]}),
        ("checkpoint", 20, 2, {}),
        ("verdict", 20, 2, {"outcome": "pass", "verdict_id": passed}),
        ("crest", 20, 2, {"why": "better"}),
        ("finished", 20, 2, {}),
    )
    registered = {"digest": "d", "training_id": "t", "step": 20, "run_id": "good"}
    store.append("checkpoints", [registered | {"event": "added"}])
    promoted = {"digest": "d", "event": "promoted", "line": "bot", "detail": {"version": 3}}
    store.append("checkpoints", [promoted])
    return unsure, failed


def test_the_abandoned_branch_is_no_part_of_the_line(store: Store) -> None:
    _, failed = _played(store)
    found = tree(store, "t")
    nodes = [
        (n.step, n.attempt, n.parent, n.outcome, n.best, n.abandoned, n.versions)
        for n in found.checkpoints
    ]
    assert nodes == [
        (0, 1, None, "none", False, False, ()),
        (10, 1, 0, "none", True, False, ()),
        (20, 1, 1, "fail", False, True, ()),
        (20, 2, 1, "pass", True, False, ("bot v3",)),
    ]
    (back,) = found.rollbacks
    assert (back.failed, back.to, back.remedy, back.verdict_id) == (2, 1, "skip_data", failed)


def test_the_page_names_the_verdict_that_failed(store: Store) -> None:
    _, failed = _played(store)
    store.append(
        "training_steps",
        [{"training_id": "t", "step": n, "attempt": 1, "loss": 1.0} for n in (1, 2)],
    )
    shown = history.verdict(store, failed)
    assert shown is not None
    said = text_of(opened("trainings", lang="zh"))
    back = said.index("回到第 10 步")
    assert zh_verdict.headline(shown.verdict) in said[back : back + 600]
    said = text_of(opened("trainings"))
    assert "pass" in said.lower()
    labels = [str(link.proto.label) for link in opened("trainings").get("page_link")]
    assert "verdict of step 20 →" in labels


def test_a_tree_of_odd_events() -> None:
    assert grown([], {}).checkpoints == []
    odd = [
        {"event": "verdict", "step": 5, "attempt": 1, "detail": {"outcome": "pass"}},
        {"event": "rolled_back", "step": 5, "attempt": 1, "detail": {}},
        {"event": "checkpoint", "step": 5, "attempt": 1, "detail": None},
        {"event": "checkpoint", "step": 5, "attempt": 1, "detail": None},
        {"event": "crest", "step": 7, "attempt": 1, "detail": None},
    ]
    assert [one.step for one in grown(odd, {}).checkpoints] == [5]
    assert failing([], {}) is None
    assert failing(["a", "b"], {"a": "inconclusive", "b": "fail"}) == "b"
    assert failing(["a"], {}) == "a"
