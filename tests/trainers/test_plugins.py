"""A package adds a trainer with options of its own, and `ratchet train` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.fake_package import ratchet_with, write_package
from tests.trainers.recipe_builders import write_world

TRAINER = '''
"""Supervised fine-tuning with noise on its gradients."""

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import Trainer

from trainers.methods.base import Job
from trainers.methods.sft import SupervisedFineTuning


class Options(BaseModel):
    """The stage's `options`: `noise` is the standard deviation of what each gradient gets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise: float = Field(0.0, ge=0)


class NoisyFineTuning(SupervisedFineTuning):
    """Next-token loss; Gaussian noise is added to every gradient."""

    options = Options

    def make(self, job: Job) -> Trainer:
        options = Options.model_validate(job.stage.model.options or {})
        trainer = super().make(job)
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.register_hook(lambda grad: grad + options.noise * torch.randn_like(grad))
        print(f"noise {options.noise}")
        return trainer


METHOD = NoisyFineTuning()
'''


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    points = {"ratchet.trainers": {"noisy": "acme_trainer:METHOD", "torn": "acme_gone:METHOD"}}
    return write_package(tmp_path / "site", "acme", {"acme_trainer.py": TRAINER}, points)


def recipe(folder: Path, base: Path, **stage: object) -> str:
    path = write_world(folder, base, spoiled=False)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    written["stages"][0].update({"steps": 2, "checkpoint_every": 2, **stage})
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    return str(path)


def test_a_packages_trainer_trains(acme: Path, tmp_path: Path, tiny_llama: Path) -> None:
    path = recipe(tmp_path, tiny_llama, trainer="noisy", options={"noise": 0.25})
    done = ratchet_with(acme, "train", path)
    assert done.returncode in (0, 1, 2), done.stderr
    assert "noise 0.25" in done.stdout


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (
            {"trainer": "noisy", "options": {"noise": -1}},
            "`options.noise`: Input should be greater",
        ),
        ({"trainer": "noisy", "options": {"nose": 1}}, "`options.nose`: Extra inputs"),
        ({"trainer": "noisy", "beta": 0.1}, "it is for dpo, grpo, kto, rloo"),
        ({"trainer": "sft", "options": {"noise": 1}}, "the trainer sft has no 'options'"),
        ({"trainer": "nosy"}, "'ppo', 'noisy' or 'torn'"),
        ({"trainer": "torn"}, "'torn' of the package acme can't be loaded"),
    ],
)
def test_what_can_be_wrong_with_its_keys_is_said(
    acme: Path, tmp_path: Path, tiny_llama: Path, stage: dict[str, object], says: str
) -> None:
    done = ratchet_with(acme, "train", recipe(tmp_path, tiny_llama, **stage), "--dry-run")
    assert (done.returncode, says in done.stderr) == (3, True), done.stderr
