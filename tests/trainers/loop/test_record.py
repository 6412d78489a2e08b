"""A training goes on with the data plan that it began with, or is refused in one message."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from trainers.checkpoints.state import TrainingState, save_state
from trainers.config.data_plan import PLAN_VERSION, DataPlan
from trainers.loop.record import TrainingRecord

PLANS = {1: DataPlan(((0, 1), (2, 3)), 1), 2: DataPlan(((1, 0), (3, 2)), 1)}


def record(home: Path) -> TrainingRecord:
    run: Any = SimpleNamespace(home=home, training_id="t")
    anything: Any = None
    return TrainingRecord(run, anything, PLANS.__getitem__, anything)


def old_state(home: Path, plan: DataPlan) -> None:
    """As it was written before plans had versions."""
    raw = asdict(TrainingState("t", plan.digest))
    del raw["plan_version"]
    (home / "state.json").write_text(json.dumps(raw), encoding="utf-8")


def test_a_new_training_has_the_newest_plan(tmp_path: Path) -> None:
    assert record(tmp_path).plan == PLANS[PLAN_VERSION]


def test_a_training_begun_before_versions_keeps_the_first_plan(tmp_path: Path) -> None:
    old_state(tmp_path, PLANS[1])
    assert record(tmp_path).plan == PLANS[1]


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_is_kept(tmp_path: Path, version: int) -> None:
    save_state(
        tmp_path / "state.json",
        TrainingState("t", PLANS[version].digest, plan_version=version),
    )
    assert record(tmp_path).plan == PLANS[version]


def test_a_plan_that_can_not_be_made_again_is_refused(tmp_path: Path) -> None:
    old_state(tmp_path, PLANS[2])
    with pytest.raises(UserError, match="data plan") as refused:
        record(tmp_path).plan  # noqa: B018
    assert "--again" in str(refused.value.hint)
    later = TrainingState("t", PLANS[2].digest, plan_version=PLAN_VERSION + 1)
    save_state(tmp_path / "state.json", later)
    with pytest.raises(UserError, match="data plan"):
        record(tmp_path).plan  # noqa: B018
