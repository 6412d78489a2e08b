"""Elo as the charts draw it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.queries.elo import anchor_of_training, as_points, is_elo, points
from dashboard.queries.measures import Allowance
from harness.core.types import Row
from harness.core.workspace import Workspace
from harness.store.store import Store

PROTOCOL = {
    "quiz": {"data": "d", "generate": {}, "metrics": {"elo": {"signature": "elo|v:1|judge:j"}}}
}


def test_only_elo_is_rated() -> None:
    assert is_elo("quiz/elo")
    assert not is_elo("elo/bleu")


def test_a_win_share_that_is_allowed_is_so_many_points() -> None:
    found = as_points(Allowance(0.05, 0.0, "ratio", -0.025))
    assert found.change == pytest.approx(-17.4, abs=0.05)
    assert as_points(Allowance(None, None, "ratio", -0.7)).change < -1000


def test_the_anchor_stands_at_1000_and_who_met_nobody_nowhere(tmp_path: Path) -> None:
    with Store(Workspace.at(tmp_path).ensure()) as store:
        found = points(store, PROTOCOL, "quiz/elo", "a", [("run-a", "a"), ("run-b", "b")])
    assert {key: one.value for key, one in found.items()} == {("run-a", "quiz/elo"): 1000.0}


def test_the_anchor_of_a_training_is_its_first_checkpoint() -> None:
    runs: list[Row] = [{"step": 3, "model_digest": "b"}, {"step": 0, "model_digest": "a"}]
    assert anchor_of_training(runs) == "a"
    assert anchor_of_training(runs[:1]) is None
