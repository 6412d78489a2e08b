"""Adapters on the tiny models, of random weights that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_adapter(folder: Path, base: Path, *, seed: int = 0, **config: Any) -> Path:
    """A LoRA on the model in `base`; `config` replaces settings of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **config}
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(**{"init_lora_weights": False, **settings}),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * (0.3 if "lora" in name else 0.02))
    model.save_pretrained(folder)
    return folder
