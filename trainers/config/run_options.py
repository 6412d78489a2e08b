"""How one execution of a recipe runs on this machine, which is not part of the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sharding = Literal["zero2", "zero3", "fsdp"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says beside the recipe.

    sharding           how the training is cut up over the processes of torchrun; None: not at all
    scored_on          the server that answers for its checkpoints, as `--score-on` names it; None:
                       the model that is trained
    background_device  the torch device on which a second process judges its checkpoints while it
                       trains on; None: it waits for each verdict
    """

    sharding: Sharding | None = None
    scored_on: str | None = None
    background_device: str | None = None


ALL_HERE = RunOptions()
"""One process trains, answers and judges."""
