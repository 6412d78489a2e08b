"""Settings of the Trainer's own: checked, part of the training's name, and passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.core.errors import UserError
from harness.models.resolve import ModelFiles
from tests.tiny_families import save_family
from tests.trainers.method_builders import job_of, write_method_world
from trainers.checkpoints.lookup import training_id
from trainers.config.load import load_recipe
from trainers.config.precision import Machine, Settled, settle
from trainers.config.step_memory import step_bytes, weight_bytes
from trainers.methods.models import require_options
from trainers.methods.packing import Packed
from trainers.methods.step_attention import attending

NOWHERE = Path("nowhere")
GPU = Machine("cuda", bfloat16=True, free_bytes=80 * 2**30)


def world(folder: Path, base: Path = NOWHERE, trainer: str = "sft", **options: Any) -> Path:
    return write_method_world(folder, base, trainer, stage={"trainer_options": options})


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("sft", {"optimiser": "adafactor"}, {}, "unknown key 'optimiser'", "did you mean 'optimizer'?"),
    ("sft", {"weight_decy": 0.1}, {}, "unknown key 'weight_decy'", "weight_decay"),
    ("sft", {"optimizer": "adamw_bnb_8bit"}, {}, "'adamw_8bit'", ""),
    ("sft", {"weight_decay": -1}, {}, "greater than or equal to 0", ""),
    ("sft", {"betas": [0.9]}, {}, "", ""),
    ("sft", {"betas": [0.9, 1.0]}, {}, "less than 1", ""),
    ("sft", {"neftune_noise_alpha": 0}, {}, "greater than 0", ""),
    ("sft", {"gradient_checkpointing": "sometimes"}, {}, "'auto', 'on' or 'off'", ""),
    ("sft", {"attention": "flash"}, {}, "'flash_attention_2'", ""),
    ("dpo", {"packing": True}, {}, "the trainer dpo has no `trainer_options: packing`", ""),
    ("grpo", {"neftune_noise_alpha": 5}, {}, "it is for sft", ""),
    ("ppo", {"use_liger_kernel": True}, {}, "it is for dpo, grpo, kto, rloo, sft", ""),
    ("grpo", {"attention": "eager"}, {}, "it is for dpo, kto, reward, sft", ""),
    ("sft", {"packing": True}, {"adapter": {"kind": "prefix"}}, "before one document", ""),
    (
        "sft",
        {"gradient_checkpointing": True},
        {"adapter": {"kind": "prefix"}},
        "a prefix is lost",
        "",
    ),
    ("sft", {"master_weights": "bfloat16"}, {}, "for full fine-tuning", ""),
    (
        "sft",
        {"master_weights": "bfloat16"},
        {"adapter": {"kind": "none"}, "dtype": "bfloat16"},
        "name the `optimizer`",
        "",
    ),
]


@pytest.mark.parametrize(("trainer", "options", "recipe", "says", "hint"), BAD)
def test_an_option_that_is_not_there_is_one_message(
    tmp_path: Path,
    trainer: str,
    options: dict[str, Any],
    recipe: dict[str, Any],
    says: str,
    hint: str,
) -> None:
    path = write_method_world(
        tmp_path, NOWHERE, trainer, stage={"trainer_options": options}, **recipe
    )
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert says in caught.value.what
    assert hint in str(caught.value.hint)
    assert str(caught.value.field).startswith("stages.0")
    assert caught.value.line


@pytest.mark.parametrize(
    ("option", "value", "lacks"),
    [
        ("optimizer", "adamw_8bit", "needs the package bitsandbytes"),
        ("use_liger_kernel", True, "needs the package liger_kernel"),
        ("attention", "flash_attention_2", "needs the package flash_attn"),
    ],
)
def test_what_is_not_installed_is_said_before_a_weight_is_read(
    tmp_path: Path, option: str, value: Any, lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(world(tmp_path, **{option: value}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=lacks) as caught:
        require_options(recipe, GPU)
    assert caught.value.field == f"stages.0.trainer_options.{option}"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    require_options(recipe, GPU)
    with pytest.raises(UserError, match="needs a GPU"):
        require_options(recipe, Machine())


def test_options_name_another_training(tmp_path: Path) -> None:
    base = ModelFiles("base", NOWHERE, None, "0" * 64)

    def name(**options: Any) -> str:
        recipe = load_recipe(world(tmp_path, **options))
        return training_id(recipe, recipe.stages[0], base)

    plain = load_recipe(write_method_world(tmp_path, NOWHERE, "sft"))
    assert name() == name(weight_decay=0.0) == training_id(plain, plain.stages[0], base)
    others = [
        name(weight_decay=0.1),
        name(packing=True),
        name(optimizer="adafactor"),
        name(betas=[0.8, 0.9]),
        name(gradient_checkpointing="on"),
        name(gradient_checkpointing=False),
    ]
    assert len({name(), *others}) == 7
    assert name(gradient_checkpointing=True) == name(gradient_checkpointing="on")


@pytest.mark.parametrize("trainer", ["sft", "reward", "dpo", "kto", "grpo", "rloo", "ppo"])
def test_they_reach_the_trainers_own_arguments(
    tmp_path: Path, tiny_llama: Path, trainer: str
) -> None:
    options = {"optimizer": "adamw_torch", "weight_decay": 0.25, "betas": [0.8, 0.99]}
    job, method = job_of(world(tmp_path, tiny_llama, trainer, **options), tmp_path / "w")
    arguments = method.make(job).args
    assert arguments.optim == "adamw_torch"
    assert (arguments.weight_decay, arguments.adam_beta1, arguments.adam_beta2) == (0.25, 0.8, 0.99)


@pytest.mark.parametrize("trainer", ["sft", "ppo"])
def test_a_process_that_sees_two_cards_trains_on_one(
    tmp_path: Path, tiny_llama: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments

    begin = TrainingArguments.__post_init__

    def with_two(self: Any) -> None:
        begin(self)
        assert self.n_gpu == 0
        vars(self).update(_n_gpu=2)

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_two)
    job, method = job_of(world(tmp_path, tiny_llama, trainer), tmp_path / "w")
    assert method.make(job).args.n_gpu == 1


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "every", "steps"),
    [(48, 4, 1, 4, 12), (48, 4, 1, 5, 15), (48, 4, 2.5, 10, 30), (48, 5, 0.01, 3, 3)],
)
def test_epochs_are_whole_segments(
    tmp_path: Path, rows: int, batch: int, epochs: float, every: int, steps: int
) -> None:
    stage = {"epochs": epochs, "checkpoint_every": every, "batch_size": batch}
    path = write_method_world(tmp_path, NOWHERE, "sft", stage=stage)
    raw = yaml.safe_load(path.read_text("utf-8"))
    del raw["stages"][0]["steps"]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    recipe = load_recipe(path)
    assert len(recipe.stages[0].examples) == rows
    assert recipe.stages[0].model.steps == steps
    assert recipe.stages[0].segments == steps // every


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"epochs": 2}, "either `steps` or `epochs`"),
        ({"epochs": 2, "steps": None}, ""),
        ({"epochs": 10_000, "batch_size": 1, "warmup_steps": 10**9}, ""),
    ],
)
def test_epochs_beside_steps_are_refused(tmp_path: Path, stage: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write_method_world(tmp_path, NOWHERE, "sft", stage=stage))
    assert says in caught.value.what


def test_recipes_check_says_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world(tmp_path, packing=True, optimizer="adafactor")
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["dtype"] = "bfloat16"
    raw["stages"][0] |= {"epochs": 2}
    del raw["stages"][0]["steps"]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(["recipes", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "24 steps of 4" in said
    assert "2 epochs of 48 rows, in whole segments" in said
    assert "dtype bfloat16, optimizer adafactor, packing" in said


# -- packing -------------------------------------------------------------------------------------


def row(length: int, first: int = 1) -> dict[str, list[int]]:
    ids = list(range(first, first + length))
    return {"input_ids": ids, "labels": ids}


def test_rows_are_laid_without_padding_between_them() -> None:
    made = Packed(8, pad=0)([row(3), row(5, 10), row(4, 20), row(2, 30)])
    assert made["input_ids"].tolist() == [
        [10, 11, 12, 13, 14, 1, 2, 3],
        [20, 21, 22, 23, 30, 31, 0, 0],
    ]
    assert made["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 0, 1, 0, 0]]
    assert made["labels"].tolist() == [
        [-100, 11, 12, 13, 14, -100, 2, 3],
        [-100, 21, 22, 23, -100, 31, -100, -100],
    ]
    flat = Packed(8, pad=0, one=True)([row(3), row(5, 10)])
    assert flat["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    long = Packed(4, pad=0)([row(6), row(2)])
    assert long["input_ids"].shape == (2, 6)


def test_packed_rows_teach_what_padded_ones_do(tmp_path: Path, tiny_llama: Path) -> None:
    import torch

    losses = []
    for packing in (False, True):
        path = world(tmp_path / str(packing), tiny_llama, packing=packing)
        job, method = job_of(path, tmp_path / f"w{packing}")
        trainer = method.make(job)
        batch = trainer.data_collator([trainer.train_dataset[n] for n in (0, 9, 21, 30)])
        if packing:
            assert batch["input_ids"].shape[0] == 1
            assert "attention_mask" not in batch
        trainer.model.eval()
        with torch.no_grad():
            losses.append(float(trainer.compute_loss(trainer.model, batch)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("family", ["mamba2", "lfm2"])
def test_a_model_that_carries_a_state_along_is_not_packed(tmp_path: Path, family: str) -> None:
    base = save_family(family, tmp_path / "m")
    path = world(tmp_path, base, packing=True)
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["adapter"]["targets"] = ["in_proj"]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    job, method = job_of(path, tmp_path / "w")
    with pytest.raises(UserError, match="see each other"):
        method.make(job)


# -- attention and activations -------------------------------------------------------------------


def test_steps_have_their_own_attention_and_the_scorer_keeps_its(
    tmp_path: Path, tiny_llama: Path
) -> None:
    job, method = job_of(world(tmp_path, tiny_llama, attention="eager"), tmp_path / "w")
    trainer = method.make(job)
    seen = []
    inner = trainer.compute_loss

    def compute_loss(model: Any, *words: Any, **named: Any) -> Any:
        seen.append(job.model.config._attn_implementation)
        return inner(model, *words, **named)

    trainer.compute_loss = compute_loss
    trainer.args.max_steps = 1
    trainer.train()
    assert seen == ["eager"]
    assert job.model.config._attn_implementation == "sdpa"
    with attending(job.model, None):
        assert job.model.config._attn_implementation == "sdpa"


def test_a_step_is_estimated_near_what_one_took() -> None:
    """8 rows of 1,024 tokens on a Llama of 1.07 B parameters, with LoRA in bfloat16 and activations
    kept: 22 GiB were measured on an H200.
    """
    half = Settled("bfloat16", "bfloat16", "bfloat16")
    size = {"layers": 16, "width": 2048, "inner": 8192, "vocabulary": 49152}
    activations = step_bytes(**size, tokens=8 * 1024, settled=half)
    whole = activations + weight_bytes(1_070_000_000, 10_000_000, half)
    assert 18 < whole / 2**30 < 33
    assert step_bytes(**size, tokens=8 * 1024, settled=Settled()) > 1.5 * activations


def test_activations_are_recomputed_only_where_a_step_does_not_fit(tmp_path: Path) -> None:
    asked: list[Settled] = []

    def fits(machine: Machine, settled: Settled) -> bool:
        asked.append(settled)
        return machine.free_bytes > 2**30

    def recompute(machine: Machine, **options: Any) -> bool:
        recipe = load_recipe(world(tmp_path, **options))
        return settle(recipe, recipe.stages[0], machine, fits).recompute

    small = Machine("cuda", bfloat16=True, free_bytes=2**20)
    assert not recompute(GPU)
    assert recompute(small)
    assert [settled.weights for settled in asked] == ["bfloat16", "bfloat16"]
    assert not recompute(Machine())
    assert recompute(GPU, gradient_checkpointing="on")
    assert not recompute(small, gradient_checkpointing="off")
