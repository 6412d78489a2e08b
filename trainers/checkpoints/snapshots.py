"""Copies of the newest checkpoints' states in memory, so that going back to one reads no weights.

The files on disk are what counts: `checkpoints.folder` has checked them before anybody goes back.
Memory holds the same numbers, so that they need not be unpickled again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.checkpoints.folder import NOTE

MOST_BYTES = 256 * 2**20
"""How much a Trainer may remember: some ten states of an adapter, none of a whole model."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies of what a step changes: trained parameters and buffers by name, the optimizer's and
    the scheduler's state. `size` is in bytes.
    """

    tensors: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    size: int


class Snapshots:
    """States by step, the newest ones, within `most` bytes."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._kept: dict[int, Snapshot] = {}

    def keep(self, step: int, trainer: Any) -> None:
        """Remember the trainer's present state as that of `step`, where there is room for it."""
        # A step is trained towards more than once where training went back.
        self._kept = {s: kept for s, kept in self._kept.items() if s < step}
        size = _size(trainer)
        if size > self._most:
            return
        while self._kept and sum(kept.size for kept in self._kept.values()) + size > self._most:
            del self._kept[min(self._kept)]
        self._kept[step] = Snapshot(
            {name: tensor.detach().clone() for name, tensor in _changing(trainer.model)},
            copy.deepcopy(trainer.optimizer.state_dict()),
            copy.deepcopy(trainer.lr_scheduler.state_dict()),
            size,
        )

    def of(self, checkpoint: Path) -> Snapshot | None:
        """The state of a committed checkpoint, where it is remembered."""
        note = checkpoint / NOTE
        if not self._kept or not note.exists():
            return None
        return self._kept.get(int(json.loads(note.read_text(encoding="utf-8"))["step"]))


def remembering(trainer_class: type[Any]) -> type[Any]:
    """A Trainer's class that takes weights, optimizer and scheduler from memory where it goes back
    to a checkpoint that it has saved itself. Where a state is split over processes, or memory holds
    none, it reads the files as ever.
    """

    class Remembering(trainer_class):  # type: ignore[misc]
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self._snapshots = Snapshots()

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
                self._snapshots.keep(self.state.global_step, self)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            snapshot = self._snapshots.of(Path(resume_from_checkpoint))
            if snapshot is None:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
            else:
                _put_back(snapshot.tensors, self.model)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            snapshot = None if checkpoint is None else self._snapshots.of(Path(checkpoint))
            if snapshot is None:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                # The optimizer goes on to change what it is given.
                self.optimizer.load_state_dict(copy.deepcopy(snapshot.optimizer))
                self.lr_scheduler.load_state_dict(copy.deepcopy(snapshot.scheduler))

    Remembering.__name__ = trainer_class.__name__
    return Remembering


def _changing(model: Any) -> list[tuple[str, Any]]:
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    return [*trained, *model.named_buffers()]


def _put_back(tensors: Mapping[str, Any], model: Any) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in _changing(model):
            tensor.copy_(tensors[name])


def _size(trainer: Any) -> int:
    """Bytes of what a snapshot would hold."""
    moments = [
        value
        for state in trainer.optimizer.state.values()
        for value in state.values()
        if hasattr(value, "nbytes")
    ]
    weights = [tensor for _, tensor in _changing(trainer.model)]
    return sum(int(tensor.nbytes) for tensor in [*weights, *moments])
