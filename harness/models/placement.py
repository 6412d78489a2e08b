"""Where a model's weights go: onto one card, spread over several, or nowhere here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError

ROOM = 0.9
"""Share of a card's free memory that weights may take: what is left is for keys and values."""

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_WANTED = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def weight_bytes(folder: Path, dtype: str) -> int:
    """What the weights in `folder` take in memory once they are read in `dtype` (torch's name, or
    `auto`: as they are), in bytes; 0 where they are in no safetensors files.
    """
    total = 0
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            own = _BYTES.get(tensor["dtype"], 1)
            each = _WANTED.get(dtype, own) if tensor["dtype"] in _FLOATS else own
            total += each * math.prod(tensor["shape"])
    return total


def device_map(folder: Path, dtype: str, device: str) -> Any:
    """Transformers' `device_map` for a device other than the CPU. Raises UserError where it has too
    little memory. Of `cuda`, without a number, all cards count.
    """
    if not device.startswith("cuda"):
        return {"": device}
    import torch

    cards = range(torch.cuda.device_count()) if device == "cuda" else [torch.device(device).index]
    free = [int(torch.cuda.mem_get_info(card)[0]) for card in cards]
    return spread(weight_bytes(folder, dtype), free, f"{device}:0" if device == "cuda" else device)


def spread(needed: int, free: Sequence[int], first: str) -> Any:
    """The map for weights of `needed` bytes where cards have so many bytes `free`: the card `first`
    where they fit it, `auto` (accelerate's, layer by layer) where they fit all together. Raises
    UserError where they don't.
    """
    if needed <= ROOM * free[0]:
        return {"": first}
    if len(free) > 1 and needed <= ROOM * sum(free):
        return "auto"
    cards = f"{len(free)} cards have" if len(free) > 1 else "the card has"
    raise UserError(
        f"the weights take {needed / 2**30:.1f} GiB, and {cards} {sum(free) / 2**30:.1f} GiB free",
        field="--device",
        hint="serve it with vLLM over as many cards as it needs (vllm:MODEL, or openai:URL#MODEL), "
        "take a smaller --dtype, or --device cpu",
    )
