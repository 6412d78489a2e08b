"""Reward models: a pairwise ranking loss, and the backend that scores them on a suite of pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends import tokenization as tokens
from harness.backends.base import (
    Backend,
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.core.errors import UserError
from harness.core.types import AS_USUAL, PromptOptions
from harness.models.resolve import ModelFiles
from trainers.config.recipe import Example, Recipe
from trainers.config.schema import RecipeModel, StageModel
from trainers.methods.base import Job
from trainers.methods.lengths import cut, require_lengths
from trainers.methods.trainer_arguments import (
    common_settings,
    ours,
    without_printing,
)

if TYPE_CHECKING:
    from transformers import Trainer

BATCH = 16


class RewardModeling:
    """-ln sigma(reward of the chosen - reward of the rejected), over TRL's RewardTrainer."""

    shapes = ("pair",)
    measures = frozenset({"accuracy", "margin"})
    continues = False
    backend_name = "reward"
    judged_by: frozenset[str] | None = frozenset({"pair_accuracy"})
    keys: frozenset[str] = frozenset({"attention"})
    options = None
    samples = False
    trained_whole: tuple[str, ...] = ()

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        if recipe.adapter_kind == "prefix":
            return "a reward model can't be trained as a prefix"
        if recipe.quantize:
            return "a reward model is trained on a base of whole precision"
        return None

    def rows(self, stage: StageModel, steps: int) -> int:
        return steps * stage.rows_per_step

    def open(
        self,
        recipe: Recipe,
        base: ModelFiles,
        start: Path | None,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> tuple[Any, Any]:
        """The base with one number as its output. A stage before has trained a language model, of
        which a reward model keeps nothing where it is an adapter: it starts from the base.
        """
        from trainers.methods.models import adapted

        whole = recipe.model.adapter_kind == "none"
        folder = start if whole and start else base.folder
        model, tokenizer = _classifier(folder, base.tokenizer, recipe.model.seed, dtype, device)
        return adapted(model, recipe, task="SEQ_CLS", also_trained=("score",)), tokenizer

    def load(
        self, files: ModelFiles, *, dtype: str = "float32", device: str = "cpu"
    ) -> tuple[Any, Any]:
        model, tokenizer = _classifier(files.folder, files.tokenizer, 0, dtype, device)
        if files.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, files.adapter)
        return model.eval(), tokenizer

    def backend(self, model: Any, tokenizer: Any) -> Backend:
        return RewardBackend(model, tokenizer)

    def make(self, job: Job) -> Trainer:
        from trl.trainer.reward_config import RewardConfig
        from trl.trainer.reward_trainer import RewardTrainer

        arguments = RewardConfig(
            **common_settings(job),
            # Longer pairs have been refused already; TRL would drop them in silence.
            max_length=None,
        )
        trainer = ours(RewardTrainer, job)(
            model=job.model,
            args=arguments,
            train_dataset=_pairs(job, job.stage.examples),
            eval_dataset=_pairs(job, job.stage.validation) if job.stage.validation else None,
            processing_class=job.tokenizer,
            callbacks=list(job.callbacks),
        )
        return without_printing(trainer)

    def forget(self, trainer: Any) -> None:
        """Nothing outlives a step."""


METHOD = RewardModeling()


def _classifier(
    folder: Path, tokens: Path, seed: int, dtype: str = "float32", device: str = "cpu"
) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    from harness.core.quiet import quiet_libraries

    tokenizer = AutoTokenizer.from_pretrained(tokens)
    quiet: Any = logging
    level = quiet.get_verbosity()
    # A head that the files don't have begins at random: no news, but it needs a seed.
    quiet.set_verbosity_error()
    try:
        with torch.random.fork_rng(), quiet_libraries():
            torch.manual_seed(seed)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=1, dtype=getattr(torch, dtype)
            ).to(device)
    finally:
        quiet.set_verbosity(level)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A classifier finds the end of a text by what pads it.
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _pairs(job: Job, examples: Sequence[Example]) -> Any:
    """`chosen_ids` and `rejected_ids`: the prompt as it is scored, the answer, the end."""
    from datasets import Dataset

    end = answer_end(job.tokenizer)
    rows = []
    for example in examples:
        if example.answers:
            raise UserError(
                "a reward model reads answers that are texts, and one of this row's calls a tool",
                file=example.file,
                line=example.line,
                hint="write the call into the answer's text, as the model's template does",
            )
        prompt = example.asked(job.backend)
        given = (
            job.backend.encode_answer(text or "", prompt)
            for text in (example.chosen, example.rejected)
        )
        whole = [[*prompt, *before, *said] for before, said in given]
        reads = job.backend.max_length
        chosen, rejected = ([*cut(ids, job.stage, reads, room=len(end)), *end] for ids in whole)
        rows.append({"chosen_ids": chosen, "rejected_ids": rejected})
    require_lengths(
        job.recipe,
        job.stage,
        examples,
        [max(len(ids) for ids in row.values()) for row in rows],
        reads=job.backend.max_length,
    )
    return Dataset.from_list(rows)


def answer_end(tokenizer: Any) -> tuple[int, ...]:
    """What stands after an answer: the rest of its turn as the chat template closes it, so that a
    reward is read where any reader of whole conversations reads it; else the end token. Raises
    UserError where the tokenizer has none.
    """
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@"}]
        try:
            written = str(tokenizer.apply_chat_template(turns, tokenize=False))
        except Exception:  # noqa: BLE001  a template is a program, and may want other turns
            written = ""
        _, said, end = written.rpartition("@")
        if said and end:
            return tokens.encode(tokenizer, end)
    if tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer has no end token, and its chat template closes no answer: a reward "
            "would be read nowhere",
            field="base",
            hint="set `eos_token` in the base's tokenizer_config.json",
        )
    return (int(tokenizer.eos_token_id),)


class RewardBackend:
    """A reward model as a backend: it reads answers and gives each one number, its reward.

    `logprobs` answers with the reward in the place of the answer's log-probabilities, one value
    for the whole of it: both are the answer's score, the higher the better, and `pair_accuracy`
    asks for no more. It writes nothing. Sequences of one length share a batch, so that a reward
    depends on no padding.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        from harness.backends.transformers.backend import TransformersBackend

        self.model = model
        self.tokenizer = tokenizer
        self._texts = TransformersBackend(model, tokenizer)
        self._end = answer_end(tokenizer)

    @property
    def subject(self) -> Mapping[str, Any]:
        return {**self._texts.subject, "backend": "reward"}

    @property
    def max_length(self) -> int:
        return self._texts.max_length

    @property
    def prefix_token_id(self) -> int:
        return self._texts.prefix_token_id

    def encode(self, text: str) -> tuple[int, ...]:
        return self._texts.encode(text)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        return self._texts.encode_chat(messages, options)

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._texts.encode_answer(text, prompt)

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        problem = "a reward model writes no answers"
        for request in requests:
            for position in range(len(request.seeds)):
                yield Generation(request.id, position, (), "", "error", 0.0, error=problem)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """One value an answer: its reward, in the reward model's own unit."""
        by_length: dict[int, list[LogprobRequest]] = defaultdict(list)
        for request in requests:
            length = len(request.context_ids) + len(request.target_ids) + len(self._end)
            if length > self.max_length:
                problem = f"it has {length} tokens; the model takes {self.max_length}"
                yield Logprobs(request.id, (), 0.0, error=problem)
            else:
                by_length[length].append(request)
        for length in sorted(by_length):
            group = by_length[length]
            for first in range(0, len(group), BATCH):
                yield from self._rewards(group[first : first + BATCH])

    def _rewards(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        import time

        import torch

        from harness.backends.transformers.causal import evaluating

        ids = [[*request.context_ids, *request.target_ids, *self._end] for request in requests]
        began = time.perf_counter()
        with evaluating(self.model), torch.inference_mode():
            device = next(self.model.parameters()).device
            rewards = self.model(torch.tensor(ids, device=device)).logits.float().view(-1).tolist()
        latency = (time.perf_counter() - began) / len(requests)
        for request, reward in zip(requests, rewards, strict=True):
            yield Logprobs(request.id, (reward,), latency)
