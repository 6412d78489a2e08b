"""How much is written side by side: what the memory that is free on the device allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

SHARE = 0.5
"""The part of the free memory that keys and values may take. What prompts share takes a quarter as
much again, and the rest is for the layers and the logits."""
TOKENS = 16384
"""Tokens that are held at once where what one takes is not known, and the most on a processor: it
is busy with far fewer."""
ROWS, ROWS_ON_GPU = 64, 1024
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Budget:
    """The most answers side by side, and the most tokens that they hold, prompts included."""

    rows: int
    tokens: int


def budget_for(device: torch.device, token_bytes: int | None, row_bytes: int = 0) -> Budget:
    """What may be held of a model whose keys and values take so many bytes a token, and its other
    states so many a row. None: it is not known.
    """
    on_gpu = device.type == "cuda"
    rows = ROWS_ON_GPU if on_gpu else ROWS
    free = free_bytes(device)
    if token_bytes is None or free is None:
        return Budget(ROWS, TOKENS)
    room = int(free * SHARE)
    if row_bytes:
        # States that don't grow get half of it.
        room //= 2
        rows = max(1, min(rows, room // row_bytes))
    tokens = room // max(1, token_bytes)
    return Budget(rows, max(1, tokens if on_gpu else min(tokens, TOKENS)))


def free_bytes(device: torch.device) -> int | None:
    """Memory in bytes that is free there; None where that can't be found out."""
    if device.type == "cuda":
        # What torch keeps for itself, and does not use, is free too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type != "cpu":
        return None
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        # A container's own limit, where there is one ("max" otherwise).
        most = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return max(0, min(free, most - used))
