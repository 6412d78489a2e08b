"""Reinforcement learning: GRPO and RLOO over TRL, and our own PPO."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.prompts import TEMPLATE_FAULTS
from trainers.config.recipe import Example, Recipe
from trainers.config.schema import RecipeModel, StageModel
from trainers.methods.base import Job
from trainers.methods.causal import CausalMethod
from trainers.methods.drawing import OPTIONS, drawing_as_scored
from trainers.methods.lengths import require_lengths
from trainers.methods.own_logits import (
    learning_its_own,
    output_hidden,
    require_padded_prompts,
    require_ppo_forward,
)
from trainers.methods.ppo import settings as ppo
from trainers.methods.reference import without_second_adapter
from trainers.methods.rejection_sampling import with_safety_filter
from trainers.methods.trainer_arguments import (
    PlannedOrder,
    common_settings,
    ours,
    without_printing,
)
from trainers.methods.turns import refused
from trainers.rewards.mixture import ROW

if TYPE_CHECKING:
    from transformers import Trainer

    from harness.models.resolve import ModelFiles
    from trainers.rewards.mixture import RewardMixture

SAMPLING_KEYS = frozenset(
    {"flat_reward_steps", "max_new_tokens", "temperature", "rewards", "safety"}
)


@dataclass(frozen=True, slots=True)
class GroupSampling(CausalMethod):
    """Several completions to a prompt, each rewarded against the others of its group.

    A step learns from batch_size x gradient_accumulation completions; `reuse` steps learn from the
    same ones, so that a checkpoint stands only where new ones are drawn.
    """

    name: str
    beta: float
    factory: Callable[[Job, dict[str, Any]], tuple[type[Any], Any]]
    shapes: tuple[str, ...] = ("prompt", "conversation")
    measures: frozenset[str] = frozenset({"reward", "reward_std", "kl", "entropy"})
    keys = SAMPLING_KEYS | {"beta", "generate_on", "generations", "reuse", "use_liger_kernel"}
    samples = True

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        if recipe.adapter_kind == "prefix":
            return f"{self.name} can't train a prefix: use a LoRA adapter"
        if stage.rows_per_step % stage.generations:
            return (
                f"a step's {stage.rows_per_step} completions can't be shared evenly by prompts "
                f"with {stage.generations} generations each"
            )
        if stage.checkpoint_every % stage.reuse:
            return (
                f"checkpoint_every ({stage.checkpoint_every}) must be a multiple of reuse "
                f"({stage.reuse}): half-used completions can't be saved"
            )
        if not stage.rewards:
            return f"{self.name} needs `rewards`"
        return None

    def rows(self, stage: StageModel, steps: int) -> int:
        return steps // stage.reuse * stage.rows_per_step // stage.generations

    def make(self, job: Job) -> Trainer:
        stage = job.stage.model
        mixture = rewards_of(job)
        settings = {
            **common_settings(job),
            "num_generations": stage.generations,
            "max_completion_length": stage.max_new_tokens,
            "temperature": stage.temperature,
            "beta": self.beta if stage.beta is None else stage.beta,
            "num_iterations": stage.reuse,
            "steps_per_generation": stage.gradient_accumulation,
            "reward_weights": mixture.weights,
            **_drawn_on(job),
        }
        trainer_class, arguments = self.factory(job, settings)
        order = PlannedOrder(
            job.order,
            batch=stage.rows_per_step // stage.generations,
            copies=stage.generations,
            again=stage.reuse * stage.gradient_accumulation,
        )
        drawing = drawing_as_scored(ours(trainer_class, job, order), job, pairs=self.name == "grpo")
        with without_second_adapter(job.model), output_hidden(job.model):
            trainer = with_safety_filter(drawing, mixture.safety)(
                model=job.model,
                reward_funcs=_named(mixture),
                args=arguments,
                train_dataset=prompts(job),
                processing_class=job.tokenizer,
                callbacks=list(job.callbacks),
            )
        learning_its_own(trainer, stage.temperature)
        reference = trainer.ref_model and trainer.accelerator.unwrap_model(trainer.ref_model)
        require_padded_prompts(job, job.model, *([reference] if reference else []))
        return without_printing(trainer)

    def forget(self, trainer: Any) -> None:
        """Completions of the state that was left behind must not be learned from."""
        trainer._buffered_inputs = None
        trainer._step = 0


def _drawn_on(job: Job) -> dict[str, Any]:
    """What TRL is told where vLLM draws, beside the model on its own card."""
    if job.stage.model.generate_on != "vllm":
        return {}
    stops = {"stop_token_ids": sorted(job.backend.ends), "skip_special_tokens": False}
    return {"use_vllm": True, "vllm_mode": "colocate", "generation_kwargs": stops}


def _grpo(job: Job, settings: dict[str, Any]) -> tuple[type[Any], Any]:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    return GRPOTrainer, GRPOConfig(**settings)


def _rloo(job: Job, settings: dict[str, Any]) -> tuple[type[Any], Any]:
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    return RLOOTrainer, RLOOConfig(**settings)


@dataclass(frozen=True, slots=True)
class ProximalPolicy(CausalMethod):
    """PPO with a value head that travels in the adapter; a checkpoint stands only where new
    completions are drawn.
    """

    shapes: tuple[str, ...] = ("prompt", "conversation")
    measures: frozenset[str] = frozenset({"reward", "kl", "entropy", "clip_fraction", "value_loss"})
    keys = SAMPLING_KEYS | {"ppo"}
    samples = True
    trained_whole = (ppo.VALUE_HEAD,)

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        if recipe.adapter_kind in ("none", "prefix"):
            return "ppo needs a LoRA adapter: the model with it switched off is what it is held to"
        if stage.checkpoint_every % ppo.period(stage):
            return (
                f"checkpoint_every ({stage.checkpoint_every}) must be a multiple of epochs x "
                f"minibatches ({ppo.period(stage)}): half-used completions can't be saved"
            )
        return None if stage.rewards else "ppo needs `rewards`"

    def rows(self, stage: StageModel, steps: int) -> int:
        return ppo.prompts_in(stage, steps)

    def open(
        self,
        recipe: Recipe,
        base: ModelFiles,
        start: Path | None,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> tuple[Any, Any]:
        from trainers.methods.models import open_causal

        return open_causal(
            recipe,
            base,
            start,
            before=ppo.with_value_head,
            also_trained=(ppo.VALUE_HEAD,),
            dtype=dtype,
            device=device,
        )

    def make(self, job: Job) -> Trainer:
        from trainers.methods.ppo.make import make_ppo_trainer

        require_ppo_forward(job)
        require_padded_prompts(job, job.model)
        return make_ppo_trainer(job, prompts(job), rewards_of(job))


GRPO = GroupSampling("grpo", 0.04, _grpo)
RLOO = GroupSampling("rloo", 0.05, _rloo)
PPO = ProximalPolicy()


def rewards_of(job: Job) -> RewardMixture:
    """The stage's mixture; `stage:NAME` in it is the best checkpoint of that reward stage."""
    from trainers.checkpoints.lookup import reward_folder
    from trainers.rewards.mixture import load_rewards

    return load_rewards(
        job.recipe,
        job.stage,
        stage_folder=lambda name: reward_folder(job.recipe, name, job.workspace),
    )


def prompts(job: Job) -> Any:
    """Rows of `prompt` with its options, and of the data's own columns as JSON, for rewards to look
    at.
    """
    from datasets import Dataset

    examples = job.stage.examples
    room = job.stage.model.max_new_tokens
    lengths = [len(_asked(job, example)) + room for example in examples]
    require_lengths(job.recipe, job.stage, examples, lengths, reads=job.backend.max_length)
    chat = bool(job.tokenizer.chat_template)
    rows = []
    for example in examples:
        asked: Any = list(example.prompt)
        if not chat:
            asked = "\n".join(message["content"] for message in example.prompt) + "\n"
        whole = json.dumps(dict(example.columns), ensure_ascii=False, default=str)
        options = json.dumps(example.options.stored, ensure_ascii=False)
        rows.append({ROW: whole, OPTIONS: options, "prompt": asked})
    return Dataset.from_list(rows)


def _asked(job: Job, example: Example) -> list[int]:
    try:
        return example.asked(job.backend)
    except TEMPLATE_FAULTS as problem:
        raise refused(problem, example, job.recipe.model.base) from None


def _named(mixture: Any) -> list[Callable[..., Any]]:
    """The reward functions under their names, which is how TRL logs each by itself."""

    def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def reward(prompts: Any, completions: Any, **columns: Any) -> Any:
            return function(prompts, completions, **columns)

        reward.__name__ = name
        return reward

    return [named(*pair) for pair in zip(mixture.names, mixture.functions, strict=True)]
