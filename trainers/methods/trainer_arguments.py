"""Settings that every Trainer is given: the recipe's schedule, the plan's order, how it saves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.checkpoints.snapshots import remembering
from trainers.config.precision import Machine, settled_before
from trainers.config.recipe import Recipe
from trainers.distributed import sharding
from trainers.distributed.ranks import PATIENCE_S
from trainers.methods.base import Job
from trainers.methods.step_attention import with_attention

if TYPE_CHECKING:
    from transformers import Trainer

OFFLINE = "HF_HUB_OFFLINE"


class PlannedOrder:
    """A sampler over row indices that asks for the current plan each time it is begun.

    With `batch`, each batch of that many rows comes `again` times, and in it each row `copies`
    times, as trainers ask for that generate several answers and learn from them repeatedly.
    """

    def __init__(
        self,
        indices: Callable[[], Sequence[int]],
        *,
        batch: int | None = None,
        copies: int = 1,
        again: int = 1,
    ) -> None:
        self._indices = indices
        self._batch = batch
        self._copies = copies
        self._again = again

    def __iter__(self) -> Iterator[int]:
        rows = self._indices()
        size = self._batch or max(len(rows), 1)
        for first in range(0, len(rows), size):
            chunk = [row for row in rows[first : first + size] for _ in range(self._copies)]
            for _ in range(self._again):
                yield from chunk

    def __len__(self) -> int:
        return len(self._indices()) * self._copies * self._again


def common_settings(job: Job) -> dict[str, Any]:
    """Settings of `TrainingArguments` that no trainer may have otherwise."""
    recipe, stage, machine = job.recipe, job.stage, Machine.here()
    model, settled = stage.model, job.settled or settled_before(recipe, machine)
    return {
        "output_dir": str(job.output),
        "max_steps": model.steps,
        "per_device_train_batch_size": per_process(recipe, model.batch_size),
        "gradient_accumulation_steps": model.gradient_accumulation,
        "learning_rate": model.learning_rate,
        "lr_scheduler_type": model.schedule,
        "warmup_steps": model.warmup_steps,
        "max_grad_norm": model.max_grad_norm,
        "save_strategy": "steps",
        "save_steps": model.checkpoint_every,
        # Rotation would delete the last good checkpoint before it is judged: we do it ourselves.
        "save_total_limit": None,
        "logging_steps": 1,
        # A loss that is not a number must reach the health rules, not be averaged away.
        "logging_nan_inf_filter": False,
        "seed": recipe.model.seed,
        "data_seed": recipe.model.seed,
        "bf16": settled.steps == "bfloat16",
        "fp16": settled.steps == "float16",
        "gradient_checkpointing": settled.recompute,
        "use_cpu": not machine.is_gpu,
        "report_to": list(recipe.model.tracking) or "none",
        "run_name": f"{recipe.model.name} {stage.name}".strip(),
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "ddp_timeout": PATIENCE_S,
        "remove_unused_columns": False,
        **model.trainer_options.settings(),
        **sharding.settings(job.sharding),
    }


def per_process(recipe: Recipe, batch_size: int) -> int:
    """A process's share of a batch. Raises UserError where it can't be shared evenly."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size % world:
        raise UserError(
            f"a batch of {batch_size} can't be shared evenly by {world} processes",
            file=recipe.path,
            field="batch_size",
            hint=f"make it a multiple of {world}, or start another number of processes",
        )
    return batch_size // world


def ours(trainer_class: type[Any], job: Job, sampler: Iterable[Any] | None = None) -> type[Any]:
    """The Trainer's class with the plan's order in place of a shuffle."""
    order = PlannedOrder(job.order) if sampler is None else sampler

    class Planned(keeping(with_attention(trainer_class, job))):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return order

        # A model card and a push to a hub are nobody's wish here.
        def create_model_card(self, *_: Any, **__: Any) -> None:
            return None

    Planned.__name__ = trainer_class.__name__
    return Planned


def keeping(trainer_class: type[Any]) -> type[Any]:
    """The Trainer's class as it saves here, and goes back: from memory where it can."""

    class Keeping(remembering(trainer_class)):  # type: ignore[misc]
        def __init__(self, *words: Any, **named: Any) -> None:
            for given in named.values():
                if hasattr(given, "n_gpu"):
                    _on_one_card(given)
            super().__init__(*words, **named)

        # At every save of an adapter, peft asks the hub for a model of the base's name.
        def _save(self, *words: Any, **named: Any) -> None:
            with _offline():
                super()._save(*words, **named)

    Keeping.__name__ = trainer_class.__name__
    return Keeping


def _on_one_card(arguments: Any) -> None:
    """A process trains on one card, whichever others it sees: `--aside` may need one of them.
    transformers would copy the model to all for each step, and TRL refuses to be copied.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)


@contextmanager
def _offline() -> Iterator[None]:
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


def without_printing(trainer: Any) -> Trainer:
    """Take out the callbacks that write to the console: the reporter does."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    made: Trainer = trainer
    return made
