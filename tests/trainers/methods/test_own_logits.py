"""What trainers learn from are the model's own log-probabilities of what it was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.tiny_families import save_family
from tests.trainers.method_builders import job_of, write_method_world

TEXT = (5, 9, 3, 20, 7, 11, 40, 8)
TARGETS = {"gpt2": ["c_attn"], "rwkv": ["key"], "gpt_neo": ["q_proj"], "llama4_text": ["q_proj"]}


def trainer_of(folder: Path, family: str, trainer: str) -> tuple[Any, Any]:
    base = save_family(family, folder / "base")
    adapter = {"rank": 2, "alpha": 4, "targets": TARGETS.get(family, ["q_proj"])}
    job, method = job_of(write_method_world(folder, base, trainer, adapter=adapter), folder / "w")
    return job, method.make(job)


def own(model: Any, tokens: tuple[int, ...] = TEXT) -> Any:
    import torch

    ids = torch.tensor([tokens])
    with torch.no_grad():
        table = model.eval()(ids).logits[0, :-1].log_softmax(-1)
    return table.gather(-1, ids[0, 1:, None])[:, 0]


def _but(*quick: Any) -> Any:
    """Marks as long whatever is not among `quick`."""
    return lambda case: case if case in quick else pytest.param(*case, marks=pytest.mark.long)


LEARNING = [
    (family, trainer)
    for family in ("llama4_text", "recurrent_gemma", "granitemoehybrid", "qwen3")
    for trainer in ("sft", "dpo")
]
PADDING = [(f, t) for f in ("rwkv", "recurrent_gemma") for t in ("grpo", "rloo", "ppo")]


@pytest.mark.parametrize(
    ("family", "trainer"),
    map(_but(("llama4_text", "sft"), ("recurrent_gemma", "dpo")), LEARNING),
)
def test_learned_log_probabilities_are_the_models(
    tmp_path: Path, family: str, trainer: str
) -> None:
    import torch

    job, made = trainer_of(tmp_path, family, trainer)
    ids = torch.tensor([TEXT])
    labels = ids.clone()
    labels[:, :3] = -100
    asked = {"input_ids": ids, "labels": labels, "use_cache": False}
    if family == "granitemoehybrid":
        asked["output_router_logits"] = True
    output = made.model.eval()(**asked, fused_lm_head=True)
    wanted = own(job.model)
    assert torch.allclose(output.log_probs[0, 2:], wanted[2:], atol=1e-4)
    assert not output.log_probs[0, :2].any()
    extra = 0.0 if output.aux_loss is None else 0.001 * output.aux_loss.item()
    assert output.loss.item() == pytest.approx(-wanted[2:].mean().item() + extra, abs=1e-3)
    assert bool(output.is_top1.any()) == bool(output.is_top1[0, 2:].any())
    output.loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in job.model.parameters())


LONG = [pytest.param(n, marks=pytest.mark.long) for n in ("gpt_neo", "qwen3", "llama4_text")]


@pytest.mark.parametrize("family", ["gpt2", *LONG])
def test_what_stands_before_a_prompt_changes_nothing(tmp_path: Path, family: str) -> None:
    import torch

    job, made = trainer_of(tmp_path, family, "grpo")
    ids = torch.tensor([[0, 0, 0, *TEXT]])
    mask = torch.tensor([[0, 0, 0, *(1 for _ in TEXT)]])
    model = job.model.eval()
    with torch.no_grad():
        found, *_ = made._get_per_token_logps_and_entropies(model, ids, mask, 4)
    assert torch.allclose(found[0], own(model)[-4:], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "trainer"), map(_but(("rwkv", "grpo"), ("recurrent_gemma", "ppo")), PADDING)
)
def test_a_model_that_reads_padding_is_refused(tmp_path: Path, family: str, trainer: str) -> None:
    with pytest.raises(UserError, match=r"reads the padding|takes none") as refused:
        trainer_of(tmp_path, family, trainer)
    assert refused.value.field == "trainer"
