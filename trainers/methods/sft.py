"""Supervised fine-tuning over TRL, with the backends' tokens and the plan's order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainers.config.recipe import Example
from trainers.config.trainer_options import NOT_FOR_ALL
from trainers.methods.base import Job
from trainers.methods.causal import CausalMethod
from trainers.methods.lengths import cut, require_lengths
from trainers.methods.own_logits import learning_its_own, output_hidden
from trainers.methods.packing import packed
from trainers.methods.trainer_arguments import (
    common_settings,
    ours,
    without_printing,
)
from trainers.methods.turns import answered, conversation, text_end, turn_end

if TYPE_CHECKING:
    from transformers import Trainer

IGNORED = -100


class SupervisedFineTuning(CausalMethod):
    """Next-token loss on texts, and on the answers of chat pairs."""

    shapes = ("answer", "conversation", "text")
    measures = frozenset({"entropy"})
    keys = frozenset({"loss"}) | NOT_FOR_ALL

    def make(self, job: Job) -> Trainer:
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        arguments = SFTConfig(
            **common_settings(job),
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=job.stage.data.max_length,
        )
        rows = tokenized(job, job.stage.examples)
        options = job.stage.model.trainer_options
        make = _with_loss(ours(SFTTrainer, job), job, rows)
        with output_hidden(job.model):
            trainer = make(
                model=job.model,
                args=arguments,
                train_dataset=rows,
                eval_dataset=tokenized(job, job.stage.validation) if job.stage.validation else None,
                processing_class=job.tokenizer,
                data_collator=packed(job) if options.packing else None,
                callbacks=list(job.callbacks),
            )
        return without_printing(learning_its_own(trainer))


def _with_loss(trainer_class: type[Any], job: Job, rows: Any) -> type[Any]:
    """With the stage's own loss, where it has one."""
    settings = job.stage.model.loss
    if settings is None:
        return trainer_class
    from trainers.methods.losses import prepared_ewc, with_loss

    if settings.ewc is None:
        return with_loss(trainer_class, settings)
    sources = [source.source for source in job.stage.data.mix]
    kept = [sources[example.source] == settings.ewc.source for example in job.stage.examples]
    ewc = prepared_ewc(
        job.output.parent / "ewc.safetensors",
        job.model,
        [row for row, keep in zip(rows, kept, strict=True) if keep],
        settings.ewc,
        seed=job.recipe.model.seed,
    )
    return with_loss(trainer_class, settings, ewc)


METHOD = SupervisedFineTuning()


def tokenized(job: Job, examples: Sequence[Example]) -> Any:
    """Rows of `input_ids` and `labels`; of a chat pair only the answer is learned, of a
    conversation those turns of the assistant that its source says.

    The backend encodes prompts exactly as scoring does, so that the model is asked in training
    what it will be asked in the suite. Raises UserError for a row that is longer than allowed.
    """
    from datasets import Dataset

    texts = any(example.text is not None for example in examples)
    ends = (text_end(job) if texts else 0, turn_end(job))
    rows = [
        {name: cut(ids, job.stage, job.backend.max_length) for name, ids in row.items()}
        for row in (_row(example, job, *ends) for example in examples)
    ]
    require_lengths(
        job.recipe,
        job.stage,
        examples,
        [len(row["input_ids"]) for row in rows],
        reads=job.backend.max_length,
    )
    return Dataset.from_list(rows)


def _row(example: Example, job: Job, text_ends: int, turn_ends: int) -> dict[str, list[int]]:
    backend = job.backend
    if example.text is not None:
        # A text begins as it does when its perplexity is taken: after the prefix token.
        ids = [*backend.encode(example.text), text_ends]
        return {
            "input_ids": [backend.prefix_token_id, *ids],
            "labels": [IGNORED, *ids],
        }
    if example.turns:
        whole = conversation(job, example)
        return {"input_ids": list(whole.ids), "labels": list(whole.labels)}
    prompt = example.asked(backend)
    answer = answered(job, prompt, example.completion or "", turn_ends)
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
