"""Focal loss and EWC: what they are by definition, and that they go through a real Trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import UserError
from tests.tiny import tiny_model, tiny_tokenizer
from trainers.config.schema import EwcModel, LossModel
from trainers.methods.losses import Ewc, focal_loss, prepared_ewc, with_loss

IGNORED = -100


def batch(seed: int, rows: int = 3, time: int = 7, size: int = 11) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, time, size, generator=generator) * 3
    labels = torch.randint(0, size, (rows, time), generator=generator)
    labels[torch.rand(rows, time, generator=generator) < 0.3] = IGNORED
    return logits, labels


@given(st.integers(0, 999), st.floats(0.1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_focal_loss_is_its_definition(seed: int, gamma: float, counted: bool) -> None:
    logits, labels = batch(seed)
    terms = []
    for row, answers in zip(logits.double(), labels, strict=True):
        for at in range(len(answers) - 1):
            if answers[at + 1] != IGNORED:
                p = row[at].softmax(-1)[answers[at + 1]].item()
                terms.append(-((1 - p) ** gamma) * math.log(p))
    found = focal_loss(logits, labels, gamma, 40 if counted else None).item()
    assert found == pytest.approx(sum(terms) / (40 if counted else max(1, len(terms))), rel=1e-4)


@pytest.mark.parametrize("count", [None, 17, torch.tensor(17)])
def test_at_gamma_zero_it_is_the_models_own_loss(count: Any) -> None:
    model = tiny_model(64)
    ids = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :4] = IGNORED
    stock = model(ids, labels=labels, num_items_in_batch=count).loss
    assert torch.equal(focal_loss(model(ids).logits, labels, 0.0, count), stock)


def test_easy_tokens_weigh_less() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 1], logits[0, 1, 2] = 6.0, 0.5
    labels = torch.tensor([[0, 1, 2]])
    logits.requires_grad_()
    shares = []
    for gamma in (0.0, 2.0):
        [gradient] = torch.autograd.grad(focal_loss(logits, labels, gamma), logits)
        sizes = gradient[0].abs().sum(-1)
        shares.append((sizes[0] / sizes[1]).item())
    assert shares[1] < shares[0] / 50


ROWS = [{"input_ids": list(range(3, 3 + n)), "labels": list(range(3, 3 + n))} for n in (6, 9, 12)]


def test_the_fisher_diagonal_is_the_mean_squared_gradient() -> None:
    model = tiny_model(64)
    before = [p.clone() for p in model.parameters()]
    ewc = Ewc.of(model, ROWS, weight=2.0)
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in ROWS:
        model.zero_grad()
        model(
            torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])
        ).loss.backward()
        for name, parameter in model.named_parameters():
            wanted[name] += parameter.grad**2 / 3
    for name, fisher in ewc.fisher.items():
        assert torch.allclose(fisher, wanted[name], rtol=1e-4, atol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert ewc.penalty(model).item() == 0


def test_the_penalty_is_its_definition_and_pulls_back() -> None:
    model = tiny_model(64)
    ewc = Ewc.of(model, ROWS, weight=3.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    total = sum(f.double().sum() for f in ewc.fisher.values()) * 0.1**2 * 1.5
    penalty = ewc.penalty(model)
    assert penalty.item() == pytest.approx(total.item(), rel=1e-3)
    model.zero_grad()
    penalty.backward()
    assert all((p.grad >= 0).all() for p in model.parameters())


def test_what_ewc_remembers_survives_a_restart(tmp_path: Path) -> None:
    settings = EwcModel(weight=2.0, source="general.jsonl", samples=2)
    model = tiny_model(64)
    path = tmp_path / "ewc.safetensors"
    first = prepared_ewc(path, model, ROWS, settings, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    again = prepared_ewc(path, model, ROWS, settings, seed=1)
    assert again.anchor.keys() == first.anchor.keys() == first.fisher.keys()
    assert all(torch.equal(again.anchor[n], first.anchor[n]) for n in first.anchor)
    assert again.penalty(model).item() > 0
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="can't be read"):
        prepared_ewc(path, model, ROWS, settings, seed=1)
    with pytest.raises(UserError, match="no row to measure on"):
        prepared_ewc(tmp_path / "none", model, [], settings, seed=1)


def trained(folder: Path, losses: LossModel, ewc: Ewc | None, *, size: int = 4) -> Any:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer))
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=4 // size,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        seed=3,
        data_seed=3,
    )
    rows = Dataset.from_list([ROWS[i % 3] for i in range(16)])
    trainer = with_loss(SFTTrainer, losses, ewc)(
        model=model, args=arguments, train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    return model, [e["loss"] for e in trainer.state.log_history if "loss" in e]


def distance(a: Any, b: Any) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return sum(((x - y) ** 2).sum().item() for x, y in pairs)


def test_the_stock_settings_are_the_stock_trainer(tmp_path: Path) -> None:
    from trl.trainer.sft_trainer import SFTTrainer

    assert with_loss(SFTTrainer, LossModel()) is SFTTrainer


def test_a_trainer_learns_with_focal_loss(tmp_path: Path) -> None:
    stock, nll = trained(tmp_path, LossModel(), None)
    focal, losses = trained(tmp_path, LossModel(focal_gamma=2.0), None)
    assert losses[0] < nll[0]
    assert losses[-1] < losses[0]
    assert distance(stock, focal) > 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_accumulation_changes_nothing(tmp_path: Path, gamma: float) -> None:
    """The penalty and the loss of a step are the same in one batch and in four micro-batches."""
    start = tiny_model(len(tiny_tokenizer()))
    ewc = Ewc.of(start, ROWS, weight=500.0)
    losses = LossModel(focal_gamma=gamma)
    whole, one = trained(tmp_path, losses, ewc)
    parts, four = trained(tmp_path, losses, ewc, size=1)
    assert one == pytest.approx(four, rel=1e-3)
    assert distance(whole, parts) < 1e-4 * distance(whole, start)


def test_ewc_holds_the_weights(tmp_path: Path) -> None:
    start = tiny_model(len(tiny_tokenizer()))
    ends = []
    for weight in (1.0, 1e5):
        model, _ = trained(tmp_path, LossModel(), Ewc.of(start, ROWS, weight))
        fisher = Ewc.of(start, ROWS, 2.0)
        ends.append(fisher.penalty(model).item())
    assert ends[1] < ends[0] / 2


@pytest.mark.parametrize("keys", [{"focal_gamma": -1}, {"ewc": {"weight": 1}}, {"focal": 2}])
def test_keys_that_do_not_fit(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LossModel.model_validate(keys)
