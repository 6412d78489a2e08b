"""Decides what follows from a failed checkpoint: which remedy, and where to go back to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainers.checkpoints.state import Judged, TrainingState
from trainers.config.data_plan import DataPlan, current_order, without_rows
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Stage
from trainers.config.schema import Remedy

LOWER_LR_BY = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """`step` is the checkpoint that failed, or the one that the training was on its way to;
    `judged` is the verdict on it where there was one, `remedy` the one that the reason names.
    """

    step: int
    why: str
    judged: Judged | None = None
    remedy: Remedy | None = None


def next_remedy(state: TrainingState, stage: Stage, failure: Failure) -> Remedy:
    """The reason's own remedy, or the list's next one; `stop` where the rollbacks are used up."""
    if state.rollbacks >= stage.gate.max_rollbacks:
        return "stop"
    if failure.remedy is not None:
        return failure.remedy
    remedies = stage.gate.on_fail
    return remedies[min(state.failures, len(remedies) - 1)]


def rollback_target(
    history: Sequence[Mapping[str, float]], *, best_checkpoint: int | None = None
) -> int:
    """Which earlier checkpoint a failed training goes back to, as an index into `history`.

    history[i] maps each required metric of checkpoint i to its mean z against the anchor
    (`Verdict.required_mean_z()`), the failed checkpoint left out; history[0] is checkpoint-0,
    whose mapping may be empty. The best checkpoint where there is one; else the latest
    checkpoint whose required metrics all have mean z ≤ 0; else 0.
    """
    if best_checkpoint is not None:
        return best_checkpoint
    for index in range(len(history) - 1, 0, -1):
        if history[index] and all(z <= 0 for z in history[index].values()):
            return index
    return 0


def target_of(state: TrainingState, kept: Sequence[int]) -> int:
    """The step to go back to: the best checkpoint, or where the required metrics stood best."""
    if state.best_checkpoint:
        return state.best_checkpoint
    steps = [step for step in kept if state.of(step) is not None]
    history = [judged.mean_z for judged in map(state.of, steps) if judged is not None]
    return steps[rollback_target(history)] if steps else 0


def rolled_back(
    state: TrainingState,
    failure: Failure,
    remedy: Remedy,
    target: int,
    *,
    stage: Stage,
    plan: DataPlan,
    skip: Sequence[int] = (),
) -> TrainingState:
    """The state in which the next attempt begins. `skip` are the rows that `skip_rows` leaves
    out.
    """
    if failure.judged is not None:
        state = state.with_judged(failure.judged)
    state = replace(
        state,
        attempt=state.attempt + 1,
        start=target,
        failures=state.failures + (failure.remedy is None),
        rollbacks=state.rollbacks + 1,
    )
    every = stage.model.checkpoint_every
    if remedy == "skip_data":
        consumed = plan.consumed(state.dropped)
        return replace(state, dropped=(*state.dropped, consumed[-(-failure.step // every) - 1]))
    if remedy == "skip_rows":
        before = rows_of(stage, target)
        return replace(state, skipped=(*state.skipped, (before, tuple(sorted(skip)))))
    if remedy == "reshuffle":
        # Counted in the stream, where segments that were dropped before have their place.
        past = plan.consumed(state.dropped)[: target // every]
        again = (past[-1] if past else 0, stage.data.seed + state.attempt)
        return replace(state, reshuffles=(*state.reshuffles, again))
    if remedy == "lower_lr":
        return replace(state, lr_scale=state.lr_scale * LOWER_LR_BY)
    return state


def learned_in(stage: Stage, plan: DataPlan, state: TrainingState, step: int) -> list[int]:
    """The rows of the segment in which `step` lies, in the order in which a training in that state
    learns from them: numbers of the stage's examples.
    """
    every = stage.model.checkpoint_every
    end = -(-step // every) * every
    return order_of(stage, plan, state)[rows_of(stage, end - every) : rows_of(stage, end)]


def order_of(stage: Stage, plan: DataPlan, state: TrainingState) -> list[int]:
    """The rows of the whole stage as the remedies have left the plan."""
    order = current_order(plan, state.dropped, state.reshuffles)
    return without_rows(stage, order, state.skipped) if state.skipped else order


def rows_of(stage: Stage, steps: int) -> int:
    """How many rows so many steps learn from."""
    return traits_of(stage.model.trainer).rows(stage.model, steps)
