"""The prompts that all of a session's runs answered, with each one's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UserError
from harness.core.protocol import tasks_of
from harness.core.types import Run
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with an answer of each contender: `keys[i]` is the response of contender i."""

    task: str
    sample: str
    keys: tuple[str, ...]


def answered_by_all(store: Store, runs: Sequence[Run], tasks: Sequence[str]) -> tuple[Item, ...]:
    """The items of these tasks (all of the first run's where none are named), by task and sample.

    Raises UserError where the runs were not asked the same, or have no answers in common.
    """
    wanted = tuple(tasks) or tuple(tasks_of(runs[0].fingerprint.protocol))
    for task in wanted:
        asked = {_asked(run, task) for run in runs}
        if len(asked) > 1:
            raise UserError(
                f"the runs were not asked the same in task {task!r}",
                field="runs",
                hint="score them on one suite, or name other tasks with --task",
            )
    answers = [_answers(store, run, wanted) for run in runs]
    common = sorted(set.intersection(*(set(mine) for mine in answers)))
    if not common:
        raise UserError(
            "the runs have no generated answers in common", field="runs", hint="score them first"
        )
    return tuple(
        Item(task, sample, tuple(mine[task, sample] for mine in answers)) for task, sample in common
    )


def _asked(run: Run, task: str) -> str:
    declared = tasks_of(run.fingerprint.protocol).get(task)
    if declared is None:
        raise UserError(
            f"run {run.id} has no task {task!r}",
            field="--task",
            hint=f"it has {', '.join(tasks_of(run.fingerprint.protocol))}",
        )
    return declared.digest


def _answers(store: Store, run: Run, tasks: Sequence[str]) -> dict[tuple[str, str], str]:
    rows = store.query(
        "SELECT l.task, l.sample_id, first(l.key ORDER BY l.draw, l.response_index) AS key "
        "FROM run_responses l JOIN responses r USING (key) WHERE l.run_id = ? "
        "AND l.kind = 'generation' AND r.error IS NULL "
        "AND l.task IN (SELECT unnest(?::VARCHAR[])) GROUP BY l.task, l.sample_id",
        [run.id, list(tasks)],
    )
    return {(row["task"], row["sample_id"]): row["key"] for row in rows}
