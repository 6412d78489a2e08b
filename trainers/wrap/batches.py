"""The batches that a given Trainer learns from, drawn before the first step so that they can be
planned anew.

A stock sampler draws an epoch's order when the epoch begins; one that is entered again in the
middle may draw another. Drawn beforehand, the order is the same however often training goes back.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers.checkpoints.folder import untouched_randomness
from trainers.config.data_plan import DataPlan
from trainers.config.schema import MOST_ROWS


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a Trainer counts. `steps` and `checkpoint_every` are optimizer steps; a step learns from
    `accumulated` batches, from fewer at an epoch's end; `epoch` are the batches of an epoch (None:
    of a stream nobody knows); a `unit` are batches that stay together: those of a step, or of the
    steps that learn from the same answers.
    """

    steps: int
    checkpoint_every: int
    accumulated: int
    epoch: int | None
    unit: int

    @property
    def segments(self) -> int:
        return -(-self.steps // self.checkpoint_every)

    @property
    def units_per_segment(self) -> int:
        return self.checkpoint_every * self.accumulated // self.unit

    @property
    def is_even(self) -> bool:
        """Whether every step learns from as many batches: then a segment can be left out."""
        if self.epoch is None:
            return False
        one_epoch = self.steps <= -(-self.epoch // self.accumulated)
        return self.epoch % self.accumulated == 0 or one_epoch


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of this process by number, counted from 0 over all epochs: indices of rows."""

    rows: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    epoch: int

    @property
    def digest(self) -> str:
        whole = hashlib.sha256(self.rows.tobytes())
        whole.update(self.ends.tobytes())
        return whole.hexdigest()

    def __getitem__(self, number: int) -> list[int]:
        begin = int(self.ends[number - 1]) if number else 0
        found: list[int] = self.rows[begin : self.ends[number]].tolist()
        return found


class PlannedBatches:
    """A batch sampler: each epoch's part of the batches, in the order of their units."""

    def __init__(
        self, batches: Batches, unit: int, order: Callable[[], Sequence[int]], like: Any
    ) -> None:
        self._batches, self._unit, self._order = batches, unit, order
        self._epoch = 0
        # What accelerate asks of any batch sampler.
        self.batch_size = getattr(like, "batch_size", None)
        self.drop_last = getattr(like, "drop_last", False)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches.epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        begin = self._epoch * len(self)
        for place in range(begin, begin + len(self)):
            unit = place // self._unit
            if unit >= len(order):
                return
            number = order[unit] * self._unit + place % self._unit
            if number < len(self._batches.ends):
                yield self._batches[number]


def draw(loader: Any, schedule: Schedule, *, spare: int, seed: int) -> Batches | None:
    """The batches of a whole training and of `spare` segments more, as the loader's own sampler
    draws them; None where it can't be asked: a stream, or more rows than can be held.
    """
    sampler = batch_sampler_of(loader)
    if sampler is None or not schedule.epoch:
        return None
    segments = schedule.segments + spare
    wanted = segments * schedule.units_per_segment * schedule.unit
    epochs = -(-max(wanted, schedule.steps * schedule.accumulated) // schedule.epoch)
    rows: list[int] = []
    ends: list[int] = []
    with untouched_randomness():
        for epoch in range(epochs):
            _seed(seed + epoch)
            loader.set_epoch(epoch)
            for batch in sampler:
                rows.extend(batch)
                ends.append(len(rows))
            if len(rows) > MOST_ROWS or not rows:
                return None
    return Batches(np.array(rows, np.int64), np.array(ends, np.int64), schedule.epoch)


def plan_of(schedule: Schedule, *, spare: int) -> DataPlan:
    """A data plan whose rows are the numbers of units."""
    size = schedule.units_per_segment
    segments = schedule.segments + spare
    return DataPlan(
        tuple(tuple(range(n * size, (n + 1) * size)) for n in range(segments)), schedule.segments
    )


def batch_sampler_of(loader: Any) -> Any | None:
    """What draws a loader's batches; None where they come as a stream, or where the loader keeps
    its own place.
    """
    import torch

    inner = getattr(loader, "base_dataloader", loader)
    streams = isinstance(getattr(inner, "dataset", None), torch.utils.data.IterableDataset)
    known = isinstance(inner, torch.utils.data.DataLoader) and hasattr(loader, "set_epoch")
    if streams or not known or hasattr(inner, "state_dict"):
        return None
    return inner.batch_sampler


def put_in(loader: Any, sampler: PlannedBatches) -> Any:
    """The loader, with its batches drawn by `sampler`."""
    inner = getattr(loader, "base_dataloader", loader)
    # A loader lets nobody change it once it is made, and to make it anew would leave out whatever
    # a Trainer's own class has given to it.
    object.__setattr__(inner, "batch_sampler", sampler)
    return loader


def _seed(seed: int) -> None:
    """For a sampler that draws from the global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
