"""Calibrations in the store: what a suite can see, and the margins frozen from it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.core.types import Run
from harness.gate.calibration import Calibration
from harness.gate.policy import GatePolicy
from harness.store import runs
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored calibration; `frozen` is metric -> margin, `detail` is `Calibration.to_dict()`."""

    id: str
    at: datetime
    suite: str
    frozen: Mapping[str, float]
    false_rollback: float
    detail: Mapping[str, Any]

    @property
    def note(self) -> str:
        """The sentence with which a verdict cites it."""
        found = self.detail
        return (
            f"{self.id} of {self.at:%Y-%m-%d}: an unchanged model fails in "
            f"{self.false_rollback:.1%} of cases, and in {found['false_rollback_run']:.1%} of "
            f"trainings of {found['run_length']} checkpoints"
        )


def keep_calibration(
    store: Store, calibration: Calibration, policy: GatePolicy, scored: Sequence[Run]
) -> str:
    """Store a calibration with the margins that it froze, and return its id."""
    calibration_id = uuid.uuid4().hex[:16]
    detail = {**calibration.to_dict(), "frozen": calibration.frozen_margins()}
    store.append(
        "calibrations",
        [
            {
                "calibration_id": calibration_id,
                "model_digest": scored[0].model_digest,
                "suite": scored[0].suite,
                "suite_digest": scored[0].suite_digest,
                "runs": [run.id for run in scored],
                "policy": policy_document(policy),
                "false_rollback": calibration.false_rollback,
                "detail": detail,
                "calibrated_at": runs.now(),
            }
        ],
    )
    return calibration_id


def newest(store: Store, suite_digest: str) -> Stored | None:
    """The last calibration of a suite with that digest, by any model; None without one."""
    rows = store.query(
        "SELECT * FROM calibrations WHERE suite_digest = ? ORDER BY seq DESC LIMIT 1",
        [suite_digest],
    )
    if not rows:
        return None
    row = rows[0]
    return Stored(
        id=row["calibration_id"],
        at=row["calibrated_at"],
        suite=row["suite"],
        frozen=dict(row["detail"].get("frozen") or {}),
        false_rollback=row["false_rollback"],
        detail=row["detail"],
    )


def calibrated(
    store: Store, suite_digest: str, policy: GatePolicy
) -> tuple[GatePolicy, dict[str, str]]:
    """The policy with the margins that the newest calibration froze, and a note that cites it.

    A margin that is written in the suite itself (`frozen_margin`) takes precedence.
    """
    found = newest(store, suite_digest)
    if found is None:
        return policy, {}
    own = {name: m for name, m in found.frozen.items() if policy.of(name).frozen_margin is None}
    return policy.with_frozen(own), {"calibration": found.note}


def policy_document(policy: GatePolicy) -> dict[str, Any]:
    """A policy as it is stored: JSON types only."""
    return policy.model_dump(mode="json")
