"""PPO on a tiny random model: it learns what is rewarded, and goes back bit-exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.core.workspace import Workspace
from tests.tiny import tiny_model, tiny_tokenizer
from trainers.config.schema import AdapterModel, PpoModel
from trainers.config.trainer_options import TrainerOptionsModel
from trainers.methods.base import Job
from trainers.methods.models import adapted as wrapped
from trainers.methods.ppo import settings as ppo
from trainers.methods.ppo.make import make_ppo_trainer
from trainers.methods.ppo.rollout import collate, sample, seed_of
from trainers.rewards.mixture import RewardMixture, checked

PROMPTS = ("Please book a table", "What is the capital", "The quick brown fox", "你好，世界")


def share_of_e(answers: Any) -> list[float]:
    return [text.count("e") / max(1, len(text)) for text in answers.texts]


LEARN = {
    "steps": 96,
    "batch_size": 64,
    "checkpoint_every": 8,
    "ppo": {"kl_coefficient": 0.001, "lambda": 1.0},
}
MIXTURE = RewardMixture(("e",), (checked("e", share_of_e),), (1.0,))


def stage(**settings: Any) -> Any:
    own = PpoModel.model_validate(settings.pop("ppo", {}))
    model = {
        "steps": 16,
        "checkpoint_every": 4,
        "batch_size": 16,
        "gradient_accumulation": 1,
        "learning_rate": 0.02,
        "schedule": "constant",
        "warmup_steps": 0,
        "max_grad_norm": 1.0,
        "max_new_tokens": 8,
        "temperature": 1.0,
        "trainer_options": TrainerOptionsModel(),
        **settings,
    }
    return SimpleNamespace(name="ppo", model=SimpleNamespace(**model, ppo=own))


def recipe_in(folder: Path) -> Any:
    model = SimpleNamespace(name="tiny", seed=5, adapter_kind="lora", tracking=())
    return SimpleNamespace(path=folder / "recipe.yaml", model=model)


def adapted(tokenizer: Any, dropout: float = 0.1) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=dropout,
        target_modules=["q_proj", "v_proj", "o_proj"],
        modules_to_save=[ppo.VALUE_HEAD],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(ppo.with_value_head(tiny_model(len(tokenizer))), config)


def trainer_of(folder: Path, rewards: RewardMixture = MIXTURE, **settings: Any) -> Any:
    tokenizer = tiny_tokenizer()
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS]
    job = job_in(folder, stage(**settings), adapted(tokenizer), tokenizer)
    return make_ppo_trainer(job, rows, rewards)


def job_in(folder: Path, stage: Any, model: Any, tokenizer: Any) -> Job:
    """What `make_ppo_trainer` needs to know, without a recipe that was read from a file."""
    order = [i % len(PROMPTS) for i in range(4096)]
    place = Workspace.at(str(folder))
    recipe = recipe_in(folder)
    return Job(recipe, stage, model, tokenizer, None, place, folder, lambda: order, [])


def weights(folder: Path, step: int) -> str:
    return sha256_of_file(folder / f"checkpoint-{step}" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("ppo")
    trainer = trainer_of(folder, **LEARN)
    trainer.train()
    return folder, trainer


def test_it_learns_a_known_reward(learned: tuple[Path, Any]) -> None:
    _, trainer = learned
    rewards = [entry["rewards/e/mean"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(rewards) == 96
    chance = rewards[0]
    assert chance < 0.1
    assert rewards[-1] > 0.5


def test_what_it_did_is_logged(learned: tuple[Path, Any]) -> None:
    entry = next(e for e in learned[1].state.log_history if "loss" in e)
    wanted = {"kl", "entropy", "clip_fraction", "value_loss", "policy_loss", "reward"}
    assert wanted <= set(entry)
    assert entry["kl"] == pytest.approx(0, abs=1e-6)
    assert entry["clip_fraction"] == 0
    last = learned[1].state.log_history[-2]
    assert last["kl"] > 0


def test_going_back_to_a_multiple_of_the_period_is_bit_exact(learned: tuple[Path, Any]) -> None:
    folder, trainer = learned
    once = [weights(folder, step) for step in (80, 96)]
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-72"))
    assert [weights(folder, step) for step in (80, 96)] == once


def test_another_process_goes_on_to_the_same_end(learned: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = learned
    other = trainer_of(tmp_path, **LEARN)
    other.train(resume_from_checkpoint=str(folder / "checkpoint-88"))
    assert weights(tmp_path, 96) == weights(folder, 96)


def test_between_two_periods_there_is_no_going_back(
    learned: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = learned
    settings = {**LEARN, "checkpoint_every": 16, "ppo": {"epochs": 4, "minibatches": 4}}
    trainer = trainer_of(tmp_path, **settings)
    with pytest.raises(UserError, match="can't go on from step 8"):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-8"))


def test_the_value_head_lands_in_the_adapter_and_scoring_ignores_it(
    learned: tuple[Path, Any],
) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    folder, trainer = learned
    saved = load_file(folder / "checkpoint-96" / "adapter_model.safetensors")
    head = saved["base_model.model.value_head.weight"]
    assert head.abs().sum() > 0
    plain = tiny_model(len(trainer.processing_class))
    answering = PeftModel.from_pretrained(plain, folder / "checkpoint-96").eval()
    ids = torch.arange(3, 20).unsqueeze(0)
    with torch.no_grad():
        theirs = trainer.model.eval()(ids).logits
        assert torch.equal(answering(ids).logits, theirs)


def test_accumulated_micro_batches_learn_as_one_batch_does(tmp_path: Path) -> None:
    """Answers differ in length: a mean of means would weigh their tokens differently."""
    from safetensors.torch import load_file

    ends = []
    for size, accumulation in ((8, 1), (2, 4)):
        folder = tmp_path / str(size)
        trainer = trainer_of(
            folder, steps=4, batch_size=size, gradient_accumulation=accumulation, schedule="linear"
        )
        trainer.train()
        ends.append(load_file(folder / "checkpoint-4" / "adapter_model.safetensors"))
    for name, tensor in ends[0].items():
        assert tensor.allclose(ends[1][name], atol=2e-4), name


def test_minibatches_cover_each_rollout_once_per_epoch() -> None:
    from trainers.methods.ppo.trainer import RepeatedRollouts

    sampler = RepeatedRollouts(rollouts=3, size=6, epochs=2, seed=1)
    order = list(sampler)
    assert len(order) == len(sampler) == 36
    passes = [order[i : i + 6] for i in range(0, 36, 6)]
    assert [sorted(p) for p in passes] == [
        list(range(6 * r, 6 * r + 6)) for r in range(3) for _ in range(2)
    ]
    assert passes[0] != passes[1]
    assert list(sampler) == order


def test_a_trained_adapter_is_held_to_its_own_beginning(tmp_path: Path) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    model = adapted(tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    rows = [{"prompt": text} for text in PROMPTS]
    trainer = make_ppo_trainer(job_in(tmp_path, stage(steps=8), model, tokenizer), rows, MIXTURE)
    trainer.train()
    logs = [e for e in trainer.state.log_history if "loss" in e]
    assert logs[0]["kl"] == 0
    assert logs[4]["kl"] > 0


def test_it_begins_with_an_adapter_that_has_no_value_head_yet(tmp_path: Path) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    adapter = AdapterModel.model_validate({"rank": 4, "alpha": 8})
    recipe = SimpleNamespace(
        path=tmp_path / "recipe.yaml",
        model=SimpleNamespace(adapter=adapter, seed=5, base="tiny"),
    )

    def opened(start: Path | None, *also: str) -> Any:
        model = ppo.with_value_head(tiny_model(len(tokenizer))) if also else tiny_model(384)
        return wrapped(model, recipe, start, also_trained=also)  # type: ignore[arg-type]

    first = opened(None)
    with torch.no_grad():
        for name, parameter in first.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    first.save_pretrained(tmp_path / "sft", save_embedding_layers=False)
    then = opened(tmp_path / "sft", ppo.VALUE_HEAD)
    trained = dict(then.named_parameters())
    assert all((t == 0.1).all() for name, t in trained.items() if "lora_B" in name)
    assert all((t == 0).all() for name, t in trained.items() if ppo.VALUE_HEAD in name)


def test_answers_follow_their_seed_alone() -> None:
    from harness.backends.base import GenerationSettings
    from harness.backends.transformers.backend import TransformersBackend

    tokenizer = tiny_tokenizer()
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    rows = [{"prompt": text} for text in PROMPTS]
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0)
    first, again, other = (sample(backend, rows, settings, seed=s) for s in (1, 1, 2))
    assert first == again != other
    asked: list[int] = []

    def never(texts: Any) -> list[bool]:
        asked.append(len(texts))
        return [index != 0 for index in range(len(texts))]

    some = sample(backend, rows, settings, seed=1, safe=never, tries=3)
    assert asked == [4, 1, 1]
    assert [answer.safe for answer in some] == [False, True, True, True]
    assert some[1:] == first[1:]
    assert sample(backend, rows[2:], settings, seed=1, first=2) == first[2:]
    assert seed_of(1, "a") != seed_of(1, "b")
    batch = collate(first, 0, "cpu")
    shared = batch["input_ids"].shape[1] - batch["targets"].shape[1]
    assert shared == max(len(answer.prompt) for answer in first)
    for row, answer in enumerate(first):
        assert batch["targets"][row, : len(answer.tokens)].tolist() == list(answer.tokens)
        assert batch["mask"][row].sum() == len(answer.tokens)
        assert batch["position_ids"][row, shared - 1] == len(answer.prompt) - 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint_every": 6}, "multiple of epochs x minibatches"),
        ({"batch_size": 64, "gradient_accumulation": 65}, "more than 4096"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer_of(tmp_path, **settings)


def test_without_an_adapter_there_is_no_reference(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    job = job_in(tmp_path, stage(), tiny_model(len(tokenizer)), tokenizer)
    with pytest.raises(UserError, match="PPO needs an adapter"):
        make_ppo_trainer(job, [], MIXTURE)
