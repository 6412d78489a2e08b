"""Which Trainers the gate can stand around, and how they count their steps."""

from __future__ import annotations

import math
from typing import Any

from harness.core.errors import UserError
from trainers.wrap.batches import Schedule

OTHERWISE = "or watch its folder from beside it: ratchet follow DIR --suite FILE"


def require_gateable(trainer: Any) -> None:
    """Raises UserError for what can't be rolled back bit for bit by entering it again."""
    arguments = getattr(trainer, "args", None)
    if arguments is None or not callable(getattr(trainer, "train", None)):
        raise UserError(
            f"a {type(trainer).__name__} is no Trainer of transformers",
            field="trainer",
            hint="give the object whose train() your script calls",
        )
    if "train" in vars(trainer):
        raise UserError(
            "this Trainer's train() has been replaced already",
            field="trainer",
            hint="call trainers.gated on it once, before anything else takes its place",
        )
    for wrong, what, field, hint in _refused(trainer, arguments):
        if wrong:
            raise UserError(what, field=field, hint=hint)


def _refused(trainer: Any, arguments: Any) -> list[tuple[bool, str, str, str]]:
    how = _name(arguments.save_strategy)
    return [
        (
            bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled),
            "DeepSpeed and FSDP can't enter one Trainer twice, as a rollback does",
            "deepspeed" if trainer.is_deepspeed_enabled else "fsdp",
            f"train a recipe (ratchet train RECIPE --shard zero2), {OTHERWISE}",
        ),
        (
            trainer.train_dataset is None,
            "the Trainer has nothing to train on",
            "train_dataset",
            "make it with train_dataset=",
        ),
        (
            how not in ("steps", "epoch"),
            f"with save_strategy={how!r} the Trainer saves no checkpoint to judge, or only those "
            "that a metric of its own picks",
            "save_strategy",
            "set save_strategy='steps' and save_steps",
        ),
        (
            arguments.save_only_model,
            "save_only_model leaves out the optimizer's state, and nothing could be rolled back",
            "save_only_model",
            "set it to False, or take trainers.GateCallback, which only stops",
        ),
        (
            arguments.auto_find_batch_size,
            "auto_find_batch_size changes what a step learns from",
            "auto_find_batch_size",
            "set per_device_train_batch_size to what fits",
        ),
        (
            arguments.ignore_data_skip,
            "with ignore_data_skip a rollback would learn from other rows than were planned",
            "ignore_data_skip",
            "set it to False",
        ),
    ]


def schedule_of(trainer: Any, loader: Any) -> Schedule:
    """How the Trainer counts, as it will itself. Raises UserError where its checkpoints would fall
    between answers that several steps learn from.
    """
    arguments = trainer.args
    accumulated = arguments.gradient_accumulation_steps
    try:
        epoch = len(loader) or None
    except TypeError:
        epoch = None
    per_epoch = -(-epoch // accumulated) if epoch else None
    steps = arguments.max_steps
    if steps <= 0:
        if per_epoch is None:
            raise UserError(
                "nobody knows how long a stream is, so the Trainer needs its number of steps",
                field="max_steps",
                hint="set max_steps",
            )
        steps = math.ceil(arguments.num_train_epochs * per_epoch)
    every = _every(arguments, steps, per_epoch)
    # TRL's trainers that sample draw answers once for so many batches.
    drawn_for = getattr(trainer, "num_iterations", 1) * (
        getattr(arguments, "steps_per_generation", None) or 1
    )
    unit = math.lcm(accumulated, drawn_for)
    if every * accumulated % unit:
        period = unit // accumulated
        raise UserError(
            f"a checkpoint every {every} steps falls between answers that {period} steps learn "
            "from, and half-used answers can't be saved",
            field="save_steps",
            hint=f"make save_steps a multiple of {period}",
        )
    return Schedule(steps, every, accumulated, epoch, unit)


def _every(arguments: Any, steps: int, per_epoch: int | None) -> int:
    if _name(arguments.save_strategy) == "epoch":
        if per_epoch is None:
            raise UserError(
                "a stream has no epochs to save after",
                field="save_strategy",
                hint="set save_strategy='steps' and save_steps",
            )
        return per_epoch
    every = arguments.save_steps
    return math.ceil(steps * every) if every < 1 else int(every)


def _name(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))
