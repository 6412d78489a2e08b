"""The processes of one training: rank 0 judges, the others do as it says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from harness.core.errors import UserError
from trainers.config.run_options import Sharding
from trainers.distributed.sharding import announce

# A verdict may take long; those who wait for it must not give up on it.
PATIENCE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number among those that torchrun started; 0 of 1 where it did not."""

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls, sharding: Sharding | None = None) -> Ranks:
        """Joins the others. Raises UserError where not all that were asked for are there: a
        launcher that silently starts one process would train on a fraction of the batch.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch
        import torch.distributed as dist
        from accelerate import PartialState

        gpu = torch.cuda.is_available()
        announce(sharding, gpu=gpu)
        timeout = timedelta(seconds=PATIENCE_S)
        if sharding in ("zero2", "zero3") and not gpu:
            # Not `cpu=True`, which accelerate takes for "without DeepSpeed".
            state = PartialState(backend="gloo", timeout=timeout)
        elif sharding in ("zero2", "zero3"):
            state = PartialState(timeout=timeout)
        else:
            state = PartialState(cpu=not gpu, timeout=timeout)
        found = dist.get_world_size() if dist.is_initialized() else 1
        if found != world or state.num_processes != world:
            raise UserError(
                f"{world} processes were to train together, and {found} found each other",
                hint="start them with `torchrun --nproc-per-node N $(which ratchet) train RECIPE`",
            )
        return cls(state.process_index, world)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """Rank 0's value, in every process."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()

    @contextmanager
    def losing_none(self) -> Iterator[None]:
        """While the others train along. Raises UserError where one of them has ended before this
        one: what went wrong is said there, and is no defect of this process.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _is_of_a_lost_process(error):
                raise
            raise UserError(
                f"process {self.rank} of {self.world} stops: another one has ended",
                hint="the message of that process says why; the same command goes on from the last "
                "checkpoint",
            ) from error


def _is_of_a_lost_process(error: BaseException) -> bool:
    """Whether gloo or NCCL says that nobody is at the other end any more."""
    import torch.distributed as dist

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, dist.DistError):
            return True
        said = str(found).lower()
        if any(word in said for word in _LOST):
            return True
        found = found.__cause__ or found.__context__
    return False


_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "socket closed",
    "broken pipe",
    "gloo/transport",
    "processgroupnccl",
    "nccl error",
)

ALONE = Ranks()
