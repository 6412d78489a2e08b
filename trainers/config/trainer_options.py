"""A stage's `trainer_options`: what of the field's Trainer settings a recipe may choose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from harness.core.strict_model import FiniteModel

Share = Annotated[float, Field(ge=0, lt=1)]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adafactor", "adamw_8bit", "paged_adamw_8bit"
]

NOT_FOR_ALL = frozenset({"attention", "neftune_noise_alpha", "packing", "use_liger_kernel"})
"""Options that only some trainers take, as each says in its `keys`."""


class TrainerOptionsModel(FiniteModel):
    """What isn't written is as the Trainer has it.

    packing                 a batch's rows stand end to end in sequences of at most
                            `data.max_length`, and see nothing of each other
    attention               transformers' name of the attention with which steps are taken
    gradient_checkpointing  auto: only where a step is not expected to fit without
    master_weights          of full fine-tuning in bfloat16
    """

    optimizer: Optimizer | None = None
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    packing: bool = False
    use_liger_kernel: bool = False
    neftune_noise_alpha: float | None = Field(default=None, gt=0)
    attention: Literal["eager", "sdpa", "flash_attention_2", "flex_attention"] | None = None
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    master_weights: Literal["float32", "bfloat16"] = "float32"

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _as_written(cls, chosen: object) -> object:
        # YAML reads `on` and `off` as yes and no.
        return (
            {True: "on", False: "off"}.get(chosen, chosen) if isinstance(chosen, bool) else chosen
        )

    @property
    def recompute(self) -> bool | None:
        """Whether activations are recomputed; None where that is left to be found out."""
        return {"on": True, "off": False}.get(self.gradient_checkpointing)

    def settings(self) -> dict[str, Any]:
        """What `TrainingArguments` are given for it, beside what hangs on the machine."""
        found: dict[str, Any] = {}
        if "weight_decay" in self.model_fields_set:
            found["weight_decay"] = self.weight_decay
        if "betas" in self.model_fields_set:
            found["adam_beta1"], found["adam_beta2"] = self.betas
        if self.optimizer is not None:
            found["optim"] = self.optimizer
        if self.use_liger_kernel:
            found["use_liger_kernel"] = True
        if self.neftune_noise_alpha is not None:
            found["neftune_noise_alpha"] = self.neftune_noise_alpha
        return found

    def problem(self, adapter: str, dtype: str) -> tuple[str, str] | None:
        """(option, why) where one doesn't fit a recipe with that kind of adapter and that dtype."""
        if adapter == "prefix" and self.packing:
            return "packing", "a prefix stands before one document, and packed rows hold several"
        if adapter == "prefix" and self.recompute:
            return "gradient_checkpointing", "a prefix is lost where activations are recomputed"
        if self.master_weights == "bfloat16":
            if adapter != "none" or dtype != "bfloat16":
                return "master_weights", "this is for full fine-tuning with `dtype: bfloat16`"
            if self.optimizer is None:
                return "master_weights", (
                    "weights in bfloat16 swallow small steps: name the `optimizer` to be used"
                )
        return None

    def needs(self) -> Iterator[tuple[str, str | None]]:
        """(option, package or None) of what an option needs beside a GPU."""
        if self.optimizer is not None and self.optimizer.endswith("8bit"):
            yield "optimizer", "bitsandbytes"
        if self.use_liger_kernel:
            yield "use_liger_kernel", "liger_kernel"
        if self.attention == "flash_attention_2":
            yield "attention", "flash_attn"
        if self.attention == "flex_attention":
            yield "attention", None
