"""Which rows of a segment taught a checkpoint what it lost, by file and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles
from trainers.checkpoints.folder import CheckpointFolder, untouched_randomness
from trainers.config.method_traits import traits_of
from trainers.config.precision import Machine
from trainers.config.recipe import Example, Recipe, Stage
from trainers.config.validate import ROWS_EXPLAINED
from trainers.explain.influence import IGNORED, Tokens, influence, trainable
from trainers.explain.lost import Lost
from trainers.explain.preferences import Pair, pair_influence
from trainers.methods.base import Job, method_of
from trainers.methods.preference import BETA, pairs_of
from trainers.methods.sft import tokenized

NAMED = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the segment: its number among the stage's examples, how often it was learned from,
    and its influence: > 0 where learning from it raised the loss of what got worse. `share` is that
    of all harm that rows of the segment did, 0 to 1; negative where it helped.
    """

    number: int
    example: Example
    times: int
    influence: float
    share: float

    @property
    def place(self) -> str:
        """`answers.jsonl:17`"""
        line = f":{self.example.line}" if self.example.line else ""
        return f"{self.example.file.name}{line}"


@dataclass(frozen=True, slots=True)
class Taught:
    """Rows, the most harmful first; how many samples were asked, and at which of the segment's
    checkpoints: steps.
    """

    rows: tuple[Row, ...]
    samples: int
    steps: tuple[int, ...]

    @property
    def harmful(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.influence > 0)


def require_explained(stage: Stage) -> None:
    """Raises UserError for a trainer whose rows have no loss of their own."""
    trainer = stage.model.trainer
    if trainer in ROWS_EXPLAINED:
        return
    why = "has no loss of each row by itself"
    if traits_of(trainer).samples:
        why = "learns from answers that it draws, each by its reward, and from no row by itself"
    raise UserError(
        f"the trainer {trainer} {why}, so no row has an influence that could be told",
        field="trainer",
        hint=f"rows are explained for {' and '.join(ROWS_EXPLAINED)}; `skip_data` leaves out the "
        "whole segment",
    )


def first_checkpoint(
    folder: CheckpointFolder, recipe: Recipe, stage: Stage, attempt: int
) -> Path | None:
    """The stage's first state, which DPO measures against; None where it is the bare base.

    Raises UserError where it is deleted.
    """
    found = folder.stood_at(0, attempt)
    if found is None and (stage.number > 1 or recipe.model.start is not None):
        raise UserError(
            "the checkpoint of step 0 is deleted, and the stage's loss measures against it",
            file=folder.home,
            hint="train the recipe anew with --again, and explain it before checkpoints are pruned",
        )
    return found


def segment_checkpoints(
    folder: CheckpointFolder, stage: Stage, step: int, attempt: int
) -> dict[int, Path]:
    """The checkpoints at the segment's two ends, step -> folder, as far as they are there.

    Raises UserError where neither is.
    """
    every = stage.model.checkpoint_every
    end = -(-step // every) * every
    found = {at: folder.stood_at(at, attempt) for at in (end - every, end)}
    kept = {at: place for at, place in found.items() if place is not None}
    if not kept:
        raise UserError(
            f"the checkpoints of steps {end - every} and {end} are deleted, so nobody can ask them "
            "which rows taught what",
            file=folder.home,
            hint="train the recipe anew with --again, and explain it before checkpoints are pruned",
        )
    return kept


def rows_that_taught(
    recipe: Recipe,
    stage: Stage,
    base: ModelFiles,
    checkpoints: Mapping[int, Path],
    learned: Sequence[int],
    lost: Sequence[Lost],
    *,
    workspace: Workspace,
    first: Path | None = None,
    weights: str = "float32",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Taught:
    """The influence of the rows `learned` (numbers of the stage's examples, one for each time) on
    the samples `lost`, on the way between the checkpoints (`influence`): step -> folder, in order.

    `first` is the stage's first state (`first_checkpoint`), for DPO. Loads the base in the dtype
    `weights`, once for each of them. Moves no random state.
    """
    require_explained(stage)
    times = Counter(learned)
    numbers = sorted(times)
    examples = [stage.examples[number] for number in numbers]
    method = method_of(stage.model.trainer)
    device = "cuda" if Machine.here().is_gpu else "cpu"

    def at(place: Path | None) -> tuple[Any, Any]:
        return method.open(recipe, base, place, dtype=weights, device=device)

    with untouched_randomness():
        begin, *further = checkpoints.values()
        end = trainable(at(further[0])[0]) if further else None
        model, tokenizer = at(begin)
        backend = method.backend(model, tokenizer)
        job = Job(
            recipe, stage, model, tokenizer, backend, workspace, Path(), lambda: (), callbacks=()
        )
        texts = [each.tokens(backend) for each in lost]
        if stage.model.trainer == "dpo":
            began = trainable(at(first)[0])
            beta = BETA if stage.model.beta is None else stage.model.beta
            found = pair_influence(
                model,
                _pairs(job, examples),
                texts,
                first=began,
                beta=beta,
                end=end,
                progress=progress,
            )
        else:
            rows = [
                Tokens(tuple(row["input_ids"]), tuple(row["labels"]))
                for row in tokenized(job, examples)
            ]
            found = influence(model, rows, texts, end=end, progress=progress)
    by_row = [times[number] * value for number, value in zip(numbers, found, strict=True)]
    harm = sum(value for value in by_row if value > 0) or 1.0
    ranked = [
        Row(number, example, times[number], value, value / harm)
        for number, example, value in zip(numbers, examples, by_row, strict=True)
    ]
    ranked.sort(key=lambda row: (-row.influence, row.number))
    return Taught(tuple(ranked), len(lost), tuple(checkpoints))


def _pairs(job: Job, examples: Sequence[Example]) -> list[Pair]:
    def tokens(prompt: Sequence[int], said: Sequence[int]) -> Tokens:
        return Tokens((*prompt, *said), (*[IGNORED] * len(prompt), *said))

    return [
        Pair(
            tokens(row["prompt_ids"], row["chosen_ids"]),
            tokens(row["prompt_ids"], row["rejected_ids"]),
        )
        for row in pairs_of(job, examples)
    ]
