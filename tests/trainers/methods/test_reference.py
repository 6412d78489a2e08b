"""What a policy is held to is the stage's first state, whatever of the model is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import save_tiny_llama
from tests.trainers.method_builders import as_its_reference, job_of, write_method_world

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"kind": "rslora"},
    "dora": {"kind": "dora"},
    "pissa": {"init": "pissa"},
    "bias all": {"bias": "all"},
    "bias of the adapted": {"bias": "lora_only"},
    "a saved module": {"modules_to_save": ["norm"]},
    "bias and a saved module": {"bias": "all", "modules_to_save": ["norm"]},
}


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose projections have biases."""
    return save_tiny_llama(tmp_path_factory.mktemp("biased") / "m", attention_bias=True)


def moved(model: Any) -> None:
    """As training would: everything that is trained is somewhere else."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.arange(3, 40)[None]).logits


@pytest.mark.parametrize("trainer", ["dpo", "kto", "grpo", "rloo", "ppo"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_reference_is_the_first_state(
    tmp_path: Path, biased: Path, trainer: str, adapter: str
) -> None:
    import torch

    said = {"rank": 4, "alpha": 8, **ADAPTERS[adapter]}
    if trainer == "rloo":
        said["dropout"] = 0.0
    job, method = job_of(
        write_method_world(tmp_path, biased, trainer, adapter=said), tmp_path / "w"
    )
    first = logits(job.model)
    made = method.make(job)
    trained = [name for name, p in job.model.named_parameters() if p.requires_grad]
    assert not any(".ref." in name for name in trained)
    if "bias" in said:
        assert any(name.endswith("bias") for name in trained)
    moved(job.model)
    now = logits(job.model)
    assert not torch.allclose(now, first, atol=1e-3)
    with as_its_reference(made, job.model):
        held = logits(job.model)
    assert torch.allclose(held, first, atol=1e-5)
    assert torch.equal(logits(job.model), now)
    again = [name for name, p in job.model.named_parameters() if p.requires_grad]
    assert again == trained
