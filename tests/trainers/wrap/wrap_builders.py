"""A Trainer as a user's script makes one, small enough to be trained in a second."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from harness.core.files import sha256_of_file
from tests.trainers.recipe_builders import GOOD, write_world

STEPS, EVERY, BATCH = 12, 3, 4


def suite_in(folder: Path, base: Path) -> Path:
    """A suite that judges by perplexity on what is learned."""
    folder.mkdir(parents=True, exist_ok=True)
    write_world(folder, base, talk=False)
    return folder / "suite.yaml"


def texts(rows: int = 64) -> list[str]:
    """No two alike, so that an order can be told from another."""
    return [f"{GOOD[n % len(GOOD)]} {GOOD[(n // 4) % len(GOOD)]} {n}" for n in range(rows)]


def arguments(output: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "max_steps": STEPS,
        "save_steps": EVERY,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "seed": 5,
        **more,
    }


def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])


def sft(
    output: Path,
    base: Path,
    *,
    rows: Sequence[str] | None = None,
    eval_rows: int = 0,
    peft: Any = None,
    **more: Any,
) -> Any:
    """An SFTTrainer over texts, with dropout in the model's attention."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, attention_dropout=0.1)
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(output, **more)),
        train_dataset=_dataset(rows or texts()),
        eval_dataset=_dataset(texts(eval_rows)) if eval_rows else None,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=peft,
    )


def _dataset(rows: Sequence[str]) -> Any:
    return Dataset.from_list([{"text": text} for text in rows])


def batches(trainer: Any, epochs: int = 2) -> list[list[int]]:
    """What the Trainer's own sampler draws."""
    loader = trainer.get_train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found.extend(list(loader.batch_sampler))
    return found


class Fault(TrainerCallback):  # type: ignore[misc]
    """Spoils the model at a step, once: what a broken batch or a bad node does."""

    KINDS = ("noise", "nan", "optimizer")

    def __init__(self, step: int, kind: str, seed: int = 0) -> None:
        self._step, self._kind, self._seed = step, kind, seed
        self.struck = False

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **told: Any
    ) -> None:
        if self.struck or state.global_step != self._step:
            return
        self.struck = True
        chance = torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            for weight in (each for each in model.parameters() if each.requires_grad):
                noise = torch.randn(weight.shape, generator=chance)
                if self._kind == "nan":
                    weight.fill_(float("nan"))
                else:
                    weight.add_(noise)
        if self._kind == "optimizer":
            for state_of in told["optimizer"].state.values():
                state_of["exp_avg"].neg_()


def a_fault(seed: int) -> Fault:
    chance = random.Random(seed)
    return Fault(chance.randint(1, STEPS), chance.choice(Fault.KINDS), seed)


def weights(folder: Path) -> str:
    names = ("model.safetensors", "adapter_model.safetensors")
    return sha256_of_file(next(folder / name for name in names if (folder / name).exists()))
