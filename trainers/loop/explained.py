"""A stored verdict on a training's checkpoint, and the rows that taught it what it lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.lookup import training_id
from trainers.checkpoints.state import TrainingState, load_state
from trainers.config.data_plan import DataPlan, make_plan
from trainers.config.difficulty import difficulty_of
from trainers.config.load import load_recipe
from trainers.config.recipe import Recipe, Stage
from trainers.explain.lost import lost_samples
from trainers.explain.taught import (
    Taught,
    first_checkpoint,
    require_explained,
    rows_that_taught,
    segment_checkpoints,
)
from trainers.loop.blame import skipped_by
from trainers.loop.remedies import Failure, learned_in, rolled_back
from trainers.methods.preflight import require_readable_rows


@dataclass(frozen=True, slots=True)
class Explained:
    """The rows of the segment from step `begin` to `end`, in that attempt of a training."""

    training_id: str
    attempt: int
    begin: int
    end: int
    taught: Taught


def explain_rows(
    store: Store,
    workspace: Workspace,
    verdict_id: str,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Explained:
    """Which rows taught the checkpoint of a verdict what it lost. Nothing is written.

    Raises UserError for a verdict on no training's checkpoint, for a recipe or data that have
    changed since, for a trainer whose rows have no loss each, for checkpoints and models that are
    gone, and where nothing got worse: before any weight is loaded.
    """
    [verdict] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    name, step = verdict["training_id"], verdict["step"]
    if name is None or not step:
        raise UserError(
            f"the verdict {verdict_id} is not on a checkpoint of a training, so no rows are known "
            "to have taught it",
            hint="verdicts of `ratchet train` know their rows",
        )
    recipe, stage = _recipe_of(store, name)
    require_explained(stage)
    home = workspace.trainings / name
    state = load_state(home / "state.json")
    attempt = None if state is None else _attempt(state, verdict_id)
    if state is None or attempt is None:
        raise UserError(
            f"the training {name} that this verdict belongs to was begun anew or is gone",
            file=home,
            hint="explain a verdict of the training as it stands",
        )
    checkpoints = segment_checkpoints(CheckpointFolder(home), stage, step, attempt)
    first = _first(CheckpointFolder(home), recipe, stage, attempt)
    base = resolve(recipe.model.base, workspace)
    recipe = require_readable_rows(recipe, base)
    stage = recipe.stages[stage.number - 1]
    if training_id(recipe, stage, base) != name:
        raise _changed(recipe, f"the base {recipe.model.base} is not the one")
    plan = make_plan(
        stage,
        spare=stage.gate.max_rollbacks,
        difficulty=difficulty_of(stage, base, None, home),
        version=state.plan_version,
    )
    if plan.digest != state.plan:
        raise _changed(recipe, "the data plan is not the one")
    then = _state_in(store, name, state, attempt, stage, plan)
    lost = lost_samples(store, verdict_id)
    every = stage.model.checkpoint_every
    end = -(-step // every) * every
    taught = rows_that_taught(
        recipe,
        stage,
        base,
        checkpoints,
        learned_in(stage, plan, then, step),
        lost,
        workspace=workspace,
        first=first,
        weights="float32" if state.settled is None else state.settled.weights,
        progress=progress,
    )
    return Explained(name, attempt, end - every, end, taught)


def _first(folder: CheckpointFolder, recipe: Recipe, stage: Stage, attempt: int) -> Path | None:
    return (
        first_checkpoint(folder, recipe, stage, attempt) if stage.model.trainer == "dpo" else None
    )


def _recipe_of(store: Store, name: str) -> tuple[Recipe, Stage]:
    rows = store.query(
        "SELECT recipe, recipe_digest, config FROM trainings WHERE training_id = ? "
        "ORDER BY seq DESC LIMIT 1",
        [name],
    )
    path = Path(rows[0]["recipe"]) if rows else Path()
    if not rows or not path.is_file():
        raise UserError(
            f"the recipe of the training {name} is not there: {path}",
            hint="run this where the training was begun; only a recipe's rows can be named",
        )
    recipe = load_recipe(path)
    if recipe.digest != rows[0]["recipe_digest"]:
        raise _changed(recipe, "the recipe, its data or its suite are not those")
    number = int(rows[0]["config"]["stage"]["number"])
    return recipe, recipe.stages[number - 1]


def _changed(recipe: Recipe, what: str) -> UserError:
    return UserError(
        f"{what} that the training was begun with, so its rows can't be found again",
        file=recipe.path,
        hint="bring them back as they were (the training's plan.json lists its rows)",
    )


def _attempt(state: TrainingState, verdict_id: str) -> int | None:
    """In which attempt the checkpoint was made."""
    return next((j.attempt for j in state.judged if verdict_id in j.verdicts), None)


def _state_in(
    store: Store, name: str, now: TrainingState, attempt: int, stage: Stage, plan: DataPlan
) -> TrainingState:
    """The state in which an attempt learned, as the rollbacks before it left it."""
    events = store.query(
        "SELECT event, step, attempt, detail FROM training_events WHERE training_id = ? "
        "AND event IN ('started', 'rolled_back') ORDER BY seq",
        [name],
    )
    begun = max((i for i, event in enumerate(events) if event["event"] == "started"), default=0)
    backs = [e for e in events[begun:] if e["event"] == "rolled_back" and e["attempt"] < attempt]
    return _replayed(now, backs, stage, plan)


def _replayed(
    now: TrainingState, backs: Sequence[Mapping[str, Any]], stage: Stage, plan: DataPlan
) -> TrainingState:
    state = TrainingState(now.training_id, now.plan, plan_version=now.plan_version)
    for back in backs:
        detail = back["detail"]
        state = rolled_back(
            state,
            Failure(back["step"], detail["why"]),
            detail["remedy"],
            detail["to"],
            stage=stage,
            plan=plan,
            skip=skipped_by(detail),
        )
    return state
