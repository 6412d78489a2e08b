"""Going back from memory: the newest states are there, bounded, and never another attempt's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet, never_fail
from trainers.checkpoints.folder import NOTE, CheckpointFolder
from trainers.checkpoints.snapshots import Snapshots
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining


def small_trainer() -> Any:
    import torch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return SimpleNamespace(model=model, optimizer=optimizer, lr_scheduler=scheduler)


def folder_of(place: Path, step: int) -> Path:
    folder = place / str(step)
    folder.mkdir(exist_ok=True)
    (folder / NOTE).write_text(json.dumps({"step": step}), encoding="utf-8")
    return folder


def test_the_newest_states_are_kept_within_the_bound(tmp_path: Path) -> None:
    trainer = small_trainer()
    size = 8 * 4
    snapshots = Snapshots(most=2 * size)
    for step in (0, 1, 2):
        snapshots.keep(step, trainer)
    kept = [snapshots.of(folder_of(tmp_path, step)) is not None for step in (0, 1, 2)]
    assert kept == [False, True, True]
    none = Snapshots(most=size - 1)
    none.keep(0, trainer)
    assert none.of(folder_of(tmp_path, 0)) is None


def test_a_state_is_a_copy_and_replaces_those_it_comes_before(tmp_path: Path) -> None:
    import torch

    trainer = small_trainer()
    snapshots = Snapshots()
    snapshots.keep(1, trainer)
    snapshots.keep(2, trainer)
    before = trainer.model.weight.detach().clone()
    trainer.model(torch.ones(1, 3)).sum().backward()
    trainer.optimizer.step()
    kept = snapshots.of(folder_of(tmp_path, 1))
    assert kept is not None
    assert torch.equal(kept.tensors["weight"], before)
    assert kept.optimizer["state"] == {}
    # Training went back and came to step 1 again: what stood after it is another attempt's.
    snapshots.keep(1, trainer)
    assert snapshots.of(folder_of(tmp_path, 2)) is None


@pytest.mark.parametrize("remembers", [True, False])
def test_a_rollback_takes_the_files_only_where_memory_has_nothing(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    from transformers import Trainer

    read: list[str] = []
    load = Trainer._load_optimizer_and_scheduler

    def loading(self: Any, checkpoint: str | None) -> None:
        if checkpoint is not None:
            read.append(Path(checkpoint).name)
        load(self, checkpoint)

    monkeypatch.setattr(Trainer, "_load_optimizer_and_scheduler", loading)
    if not remembers:
        monkeypatch.setattr(Snapshots, "keep", lambda *_: None)
    path = write_method_world(tmp_path, tiny_llama, "sft")
    workspace = Workspace.at(tmp_path / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]
        never_fail(training, {(4, 1): VerdictOutcome.FAIL})
        assert training.run().rollbacks == 1
    assert read == ([] if remembers else ["step-000002"])


def test_a_folder_that_was_touched_is_read_again(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    staged = folder.staging / "checkpoint-1"
    staged.mkdir()
    (staged / "weights.bin").write_bytes(b"0123456789")
    place = folder.commit(1, attempt=1, base="base")
    assert [step for step, _ in folder.steps()] == [1]
    (place / "weights.bin").write_bytes(b"012345678!")
    assert list(folder.steps()) == []
    assert not place.exists()


def test_a_whole_model_takes_along_what_reads_its_images(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "preprocessor_config.json").write_bytes(b'{"size": 32}')
    folder = CheckpointFolder(tmp_path / "training")
    for step, adapter in ((1, False), (2, True)):
        staged = folder.staging / f"checkpoint-{step}"
        staged.mkdir()
        (staged / "weights.bin").write_bytes(b"0")
        if adapter:
            (staged / "adapter_config.json").write_text("{}", encoding="utf-8")
        place = folder.commit(step, attempt=1, base="base", beside=base)
        kept = place / "preprocessor_config.json"
        assert kept.exists() != adapter
        assert adapter or kept.read_bytes() == (base / kept.name).read_bytes()
