"""Writes a training's history to the store: what it is, what happened, every step's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.store import runs
from harness.store.store import Store
from trainers.config.data_plan import DataPlan
from trainers.config.precision import Settled
from trainers.config.recipe import Recipe, Stage


class TrainingLog:
    """Appends to `trainings`, `training_events` and `training_steps`; nothing is ever rewound."""

    def __init__(self, store: Store, training_id: str) -> None:
        self._store = store
        self._id = training_id

    def announce(
        self, recipe: Recipe, stage: Stage, base_digest: str, plan: DataPlan, settled: Settled
    ) -> None:
        """Say once what this training is."""
        self._store.append(
            "trainings",
            [
                {
                    "training_id": self._id,
                    "recipe": str(recipe.path),
                    "recipe_digest": recipe.digest,
                    "line": stage.model.line or recipe.model.line,
                    "base_digest": base_digest,
                    "config": {
                        **recipe.model.model_dump(mode="json"),
                        "stage": {
                            "number": stage.number,
                            "name": stage.name,
                            "trainer": stage.model.trainer,
                            "batch_size": stage.model.batch_size,
                        },
                        "plan": {"digest": plan.digest, "segments": len(plan.segments)},
                        "settled": asdict(settled),
                    },
                    "started_at": runs.now(),
                }
            ],
        )
        self.event("started", attempt=1, step=0)

    def event(
        self, event: str, *, attempt: int, step: int | None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self._store.append(
            "training_events",
            [
                {
                    "training_id": self._id,
                    "event": event,
                    "step": step,
                    "attempt": attempt,
                    "detail": dict(detail or {}),
                    "happened_at": runs.now(),
                }
            ],
        )

    def step(self, step: int, attempt: int, logs: Mapping[str, Any]) -> None:
        """One optimizer step, from what the Trainer logs of it."""
        self._store.append(
            "training_steps",
            [
                {
                    "training_id": self._id,
                    "step": step,
                    "attempt": attempt,
                    "loss": _finite(logs.get("loss")),
                    "grad_norm": _finite(logs.get("grad_norm")),
                    "learning_rate": _finite(logs.get("learning_rate")),
                    "epoch": _finite(logs.get("epoch")),
                    "tokens": None,
                    "happened_at": runs.now(),
                }
            ],
        )


def _finite(value: Any) -> float | None:
    """A finite float, or None: a gradient norm can be inf, which is not a number to keep."""
    number = None if value is None else float(value)
    return number if number is not None and math.isfinite(number) else None


def of_rewards(logs: Mapping[str, Any]) -> dict[str, float]:
    """What was earned and turned down in a step. A part that had nothing to judge has no mean."""
    return {
        name: value
        for name, value in logs.items()
        if (name.startswith(("reward", "safety/")) or name in ("kl", "entropy"))
        and value is not None
        and math.isfinite(value)
    }
