"""What a model has beside the language model that was trained, and how an export keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core.quiet import quiet_libraries
from harness.models.architecture import whole_class

CARRIED = "model-carried.safetensors"
"""The shard of tensors that no class of transformers has a place for."""
_INDEX = "model.safetensors.index.json"


def in_its_whole(model: Any, source: Path) -> Any:
    """The model of images and text in `source`, with `model` in the place of its language model;
    `model` itself where its class has a place for everything there.
    """
    import torch

    automatic = whole_class(source)
    if automatic is None:
        return model
    with quiet_libraries():
        whole = automatic.from_pretrained(source, dtype=torch.float32)
    inside, decoder = whole.get_decoder(), model.get_decoder()
    inside.load_state_dict(decoder.state_dict(), strict=True)
    if decoder is not model:
        head = model.get_output_embeddings()
        whole.get_output_embeddings().load_state_dict(head.state_dict(), strict=True)
    return whole.eval()


def carry_over(model: Any, source: Path, folder: Path) -> list[str]:
    """Write those tensors of `source` into `folder` that `model`, which was saved there, has no
    place for (heads that guess several tokens ahead, say), byte for byte; returns their names.
    None where the two folders don't call tensors by the same names.
    """
    from safetensors.torch import save_file

    theirs, ours = dict(_tensors(source)), dict(_tensors(folder))
    tied = {str(key).rpartition(".")[0] for key in getattr(model, "_tied_weights_keys", None) or ()}
    own = set(model.state_dict())
    if not theirs or not set(ours) - own <= theirs.keys() or not theirs.keys() & ours.keys():
        return []
    left = {
        name: path
        for name, path in theirs.items()
        if name not in ours and name not in own and name.rpartition(".")[0] not in tied
    }
    if not left:
        return []
    save_file({n: _read(p, n) for n, p in left.items()}, folder / CARRIED, {"format": "pt"})
    places = {**{n: p.name for n, p in ours.items()}, **dict.fromkeys(left, CARRIED)}
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return sorted(left)


def _tensors(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every tensor's name in the folder's weights, and its file."""
    from safetensors import safe_open

    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is not a mapping
                yield name, path


def _read(path: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.get_tensor(name)
