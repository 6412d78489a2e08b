"""The processes of one training: rank 0 judges, the others do as it says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number among those that torchrun started; 0 of 1 where it did not."""

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Joins the others. Raises UserError where not all that were asked for are there: a
        launcher that silently starts one process would train on a fraction of the batch.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch
        import torch.distributed as dist
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        found = dist.get_world_size() if dist.is_initialized() else 1
        if found != world or state.num_processes != world:
            raise UserError(
                f"{world} processes were to train together, and {found} found each other",
                cure="start them with `torchrun --nproc-per-node N $(which ratchet) train RECIPE`",
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


ALONE = Ranks()
