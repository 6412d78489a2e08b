"""Adapters take turns on one base: each answers as the model that was loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models import kept_base
from harness.models.kept_base import KeptBase
from harness.models.resolve import load, resolve
from tests.tiny import save_tiny_llama
from tests.tiny_adapters import save_adapter

WHERE = {"dtype": "float32", "device": "cpu"}


def logits(loaded: tuple[Any, Any]) -> Any:
    model, _ = loaded
    with torch.no_grad():
        return model(torch.tensor([[5, 6, 7, 8]])).logits


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models of which the whole was read."""
    seen: list[str] = []

    def counted(files: Any, **where: Any) -> Any:
        seen.append(files.name)
        return load(files, **where)

    monkeypatch.setattr(kept_base, "load", counted)
    return seen


def test_each_answers_as_if_it_had_been_loaded_alone(
    tmp_path: Path, tiny_llama: Path, workspace: Workspace, loads: list[str]
) -> None:
    kinds: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"r": 4, "target_modules": ["v_proj", "up_proj"]}, 1),
        ({"use_dora": True}, 1),
        ({"modules_to_save": ["lm_head"]}, 1),
        ({"use_rslora": True}, 2),  # the one before brought a module of its own
        ({"bias": "all"}, 2),
        ({}, 3),
        ({"init_lora_weights": "pissa"}, 3),
        ({}, 4),  # what the one before began with was taken out of the base
        ({"trainable_token_indices": [5, 6]}, 4),
        ({}, 5),
    ]
    kept = KeptBase()
    for number, (config, whole) in enumerate(kinds):
        folder = save_adapter(tmp_path / str(number), tiny_llama, seed=number, **config)
        files = resolve(str(folder), workspace)
        assert torch.equal(logits(kept.load(files, **WHERE)), logits(load(files, **WHERE)))
        assert len(loads) == whole, config
    bare = resolve(str(tiny_llama), workspace)
    assert torch.equal(logits(kept.load(bare, **WHERE)), logits(load(bare, **WHERE)))
    assert len(loads) == 5


def test_a_broken_adapter_leaves_nothing_behind(
    tmp_path: Path, tiny_llama: Path, workspace: Workspace, loads: list[str]
) -> None:
    good, broken = (save_adapter(tmp_path / n, tiny_llama, seed=3) for n in ("good", "broken"))
    weights = broken / "adapter_model.safetensors"
    kept = KeptBase()
    files = resolve(str(good), workspace)
    alone = logits(kept.load(files, **WHERE))
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match="can't be loaded"):
        kept.load(resolve(str(broken), workspace), **WHERE)
    assert torch.equal(logits(kept.load(files, **WHERE)), alone)
    assert len(loads) == 3  # the good one, the broken one that says so, the good one anew


def test_a_folder_that_was_written_again_is_read_again(
    tmp_path: Path, workspace: Workspace, loads: list[str]
) -> None:
    """As a training does that went back: its checkpoint-9 of now isn't the one of before."""
    folder = save_tiny_llama(tmp_path / "checkpoint-9", seed=1)
    kept = KeptBase()
    first = logits(kept.load(resolve(str(folder), workspace), **WHERE))
    save_tiny_llama(tmp_path / "checkpoint-9", seed=2)
    files = resolve(str(folder), workspace)
    again = logits(kept.load(files, **WHERE))
    assert not torch.equal(again, first)
    assert torch.equal(again, logits(load(files, **WHERE)))
    assert torch.equal(logits(kept.load(files, **WHERE)), again)
    assert len(loads) == 2
