"""Embeddings of references, kept in the workspace between checkpoints' runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 256 * 2**20


def load(encoder: str, texts: Sequence[str]) -> list[tuple[tuple[int, ...], Tensor]] | None:
    """(token ids, vectors) of each text, or None where this set of texts wasn't saved.

    `encoder` is the digest of the encoder's bytes. A file that can't be read counts as none.
    """
    path = _path(encoder, texts)
    if path is None or not path.is_file():
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored: dict[str, Any] = load_file(path)
        lengths = stored["lengths"].tolist()
        ids = stored["ids"].split(lengths)
        vectors = stored["vectors"].split(lengths)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        return None
    if len(lengths) != len(texts):
        return None
    # Split parts share one storage; a copy lets each of them go by itself.
    return [(tuple(i.tolist()), v.clone()) for i, v in zip(ids, vectors, strict=True)]


def save(
    encoder: str, texts: Sequence[str], embedded: Sequence[tuple[tuple[int, ...], Tensor]]
) -> None:
    """Store the embeddings, if there is a workspace and they take at most 256 MiB.

    A disk that can't be written is ignored: the metric has its embeddings anyway.
    """
    path = _path(encoder, texts)
    if path is None or path.exists() or sum(v.nbytes for _, v in embedded) > _LARGEST:
        return
    import torch
    from safetensors.torch import save as serialize

    content = serialize(
        {
            "ids": torch.tensor([token for ids, _ in embedded for token in ids]),
            "lengths": torch.tensor([len(ids) for ids, _ in embedded]),
            "vectors": torch.cat([vectors for _, vectors in embedded]),
        }
    )
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(staged).replace(path)
        finally:
            Path(staged).unlink(missing_ok=True)


def _path(encoder: str, texts: Sequence[str]) -> Path | None:
    """Where this set of texts belongs; None without a workspace, which a metric never makes."""
    workspace = Workspace.at()
    if not texts or not workspace.home.is_dir():
        return None
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return workspace.cache / "embeddings" / encoder[:16] / f"{digest.hexdigest()[:32]}.safetensors"
