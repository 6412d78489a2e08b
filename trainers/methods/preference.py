"""Learning from preferences over TRL: DPO from pairs, KTO from answers judged one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.config.recipe import Example
from trainers.config.schema import RecipeModel, StageModel
from trainers.methods.base import Job
from trainers.methods.causal import CausalMethod
from trainers.methods.lengths import cut, require_lengths
from trainers.methods.own_logits import learning_its_own, output_hidden
from trainers.methods.reference import without_second_adapter
from trainers.methods.trainer_arguments import (
    common_settings,
    ours,
    per_process,
    without_printing,
)
from trainers.methods.turns import asked_and_answered

if TYPE_CHECKING:
    from transformers import Trainer

BETA = 0.1
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Preference(CausalMethod):
    """`make` builds TRL's trainer of that name. The reference is the stage's first state, kept as
    a second, frozen adapter (or a second model, in full fine-tuning).
    """

    name: str
    shapes: tuple[str, ...]
    measures: frozenset[str]
    factory: Callable[[Job], Trainer]
    keys = frozenset({"beta", "attention", "use_liger_kernel"})

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        if recipe.adapter_kind == "prefix":
            return f"{self.name} can't train a prefix: use a LoRA adapter"
        if self.name == "kto" and stage.batch_size < 2:
            return "kto compares the rows of a batch: batch_size must be at least 2"
        return None

    def make(self, job: Job) -> Trainer:
        return self.factory(job)


def _dpo(job: Job) -> Trainer:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    arguments = DPOConfig(**_settings(job))
    return _build(DPOTrainer, arguments, job, pairs_of)


def _kto(job: Job) -> Trainer:
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    batch = job.stage.model.batch_size
    if per_process(job.recipe, batch) < 2:
        raise UserError(
            f"kto's batch of {batch} leaves a process one row, and TRL's trainer asks for two",
            file=job.recipe.path,
            field="batch_size",
            hint="make it at least twice the number of processes",
        )
    rows = _labelled(job, job.stage.examples)
    order = Neighbours(job.order, batch)
    trainer: Any = _build(KTOTrainer, KTOConfig(**_settings(job)), job, _labelled, order)
    trainer.train_dataset = Mismatched(rows)
    made: Trainer = trainer
    return made


DPO = Preference("dpo", ("pair",), frozenset({"rewards/accuracies", "rewards/margins"}), _dpo)
KTO = Preference("kto", ("labelled",), frozenset({"kl"}), _kto)


def _settings(job: Job) -> dict[str, Any]:
    beta = job.stage.model.beta
    return {
        **common_settings(job),
        "beta": BETA if beta is None else beta,
        "max_length": job.stage.data.max_length,
    }


def _build(
    trainer_class: type[Any],
    arguments: Any,
    job: Job,
    rows: Callable[[Job, Any], Rows],
    order: Iterable[Any] | None = None,
) -> Trainer:
    from datasets import Dataset

    class Tokenized(ours(trainer_class, job, order)):  # type: ignore[misc]
        # The rows are tokens already, encoded as scoring encodes them.
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    validation = job.stage.validation
    with without_second_adapter(job.model), output_hidden(job.model):
        trainer = Tokenized(
            model=job.model,
            args=arguments,
            train_dataset=Dataset.from_list(rows(job, job.stage.examples)),
            eval_dataset=Dataset.from_list(rows(job, validation)) if validation else None,
            processing_class=job.tokenizer,
            callbacks=list(job.callbacks),
        )
    return without_printing(learning_its_own(trainer))


def pairs_of(job: Job, examples: Sequence[Example]) -> Rows:
    """Token ids of each pair as they are learned: `prompt_ids`, `chosen_ids`, `rejected_ids`."""
    return _rows(job, examples, {"chosen_ids": "chosen", "rejected_ids": "rejected"})


def _labelled(job: Job, examples: Sequence[Example]) -> Rows:
    rows = _rows(job, examples, {"completion_ids": "completion"})
    for row, example in zip(rows, examples, strict=True):
        row["label"] = example.label
    for row, other in zip(rows, [*rows[-1:], *rows[:-1]], strict=True):
        row["KL_completion_ids"] = other["completion_ids"]
    return rows


def _rows(job: Job, examples: Sequence[Example], answers: dict[str, str]) -> Rows:
    rows: Rows = []
    reads = job.backend.max_length
    for example in examples:
        texts = [getattr(example, field) for field in answers.values()]
        prompt, said = asked_and_answered(job, example, *texts)
        fitting = [cut([*prompt, *ids], job.stage, reads)[len(prompt) :] for ids in said]
        rows.append({"prompt_ids": prompt, **dict(zip(answers, fitting, strict=True))})
    lengths = [len(row["prompt_ids"]) + max(len(row[name]) for name in answers) for row in rows]
    require_lengths(job.recipe, job.stage, examples, lengths, reads=reads)
    return rows


class Neighbours:
    """The plan's rows as pairs (row, the one before it in its batch, the first after the last).

    KTO's estimate of the KL needs each prompt beside another's answer, of the same batch. TRL pairs
    neighbours in the data; the plan decides only later who shares a batch, and how many processes
    share the batch must not matter.
    """

    def __init__(self, order: Callable[[], Sequence[int]], batch: int) -> None:
        self._order, self._batch = order, batch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows = self._order()
        for first in range(0, len(rows), self._batch):
            chunk = rows[first : first + self._batch]
            yield from zip(chunk, [chunk[-1], *chunk[:-1]], strict=True)

    def __len__(self) -> int:
        return len(self._order())


class Mismatched:
    """KTO's rows by such a pair."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, pair: tuple[int, int]) -> dict[str, Any]:
        row, other = pair
        return {**self._rows[row], "KL_completion_ids": self._rows[other]["completion_ids"]}
