"""From a model's name to a candidate that answers: which backend, which device, which dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import Candidate
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from harness.backends.ray.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and in which precision a model is opened."""

    device: str
    dtype: str

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> Hardware:
        """A GPU in bfloat16 where there is one, else this machine's cores in float32."""
        if device == "auto":
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        return cls(device, dtype)


def open_model(
    name: str,
    workspace: Workspace,
    store: Store,
    *,
    hardware: Hardware | None = None,
    base: str | None = None,
    cluster: Cluster | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Candidate:
    """The model of that name, its weights loaded only when it has to answer.

    Takes a folder, a hub id, the embedded name, `line:NAME`, or a server's `openai:URL#MODEL` or
    `openai:FILE.yaml`, or `vllm:MODEL` for vLLM in this process. Raises UserError otherwise.
    With a `cluster` the weights are loaded there, once a replica; the answers' addresses in the
    cache are the same.
    """
    if cluster is not None and name.startswith(("openai:", "vllm:")):
        raise UserError(
            f"{name.partition(':')[0]} models are not spread over Ray: they batch by themselves",
            hint="leave out --executor ray, or name the folder or hub id of the weights",
        )
    if name.startswith("openai:"):
        from harness.backends.openai.open import open_served

        return open_served(name, workspace, say=say)
    if name.startswith("vllm:"):
        return _offline_vllm(name, workspace, hardware, base, say)
    from harness.models.resolve import load, quantisation_of, resolve

    hardware = hardware or Hardware.choose()
    place = str(_promoted_folder(name, workspace, store)) if name.startswith("line:") else name
    files = resolve(place, workspace, base=base, say=say)
    subject = {
        "backend": "transformers",
        "dtype": hardware.dtype,
        "quantisation": quantisation_of(files),
    }

    def opened() -> Backend:
        from harness.backends.transformers.backend import TransformersBackend

        if cluster is not None:
            from harness.backends.ray.cluster import ModelReplica, absolute

            under = None if base is None else absolute(base)
            replica = ModelReplica(
                absolute(place),
                under,
                files.digest,
                hardware.device,
                hardware.dtype,
                unpacked=str(files.folder.absolute()) if files.adapter is None else None,
            )
            return cluster.open(replica, files, say)
        say(f"Loading {name} ({hardware.dtype} on {hardware.device})")
        model, tokenizer = load(files, dtype=hardware.dtype, device=hardware.device)
        return TransformersBackend(model, tokenizer)

    return Candidate(name, files.digest, subject, opened)


def _offline_vllm(
    name: str,
    workspace: Workspace,
    hardware: Hardware | None,
    base: str | None,
    say: Callable[[str], None],
) -> Candidate:
    from harness.backends.vllm import open_vllm, subject
    from harness.models.resolve import resolve

    dtype = (hardware or Hardware.choose()).dtype
    files = resolve(name.removeprefix("vllm:"), workspace, base=base, say=say)
    return Candidate(name, files.digest, subject(dtype), lambda: open_vllm(files, dtype=dtype))


def _promoted_folder(name: str, workspace: Workspace, store: Store) -> Path:
    from harness.registry.registry import Registry

    line = name.removeprefix("line:")
    registry = Registry(workspace, store)
    promoted = registry.promoted(line)
    if promoted is None:
        raise UserError(
            f"the line {line!r} has no promoted checkpoint",
            hint=f"promote one: ratchet promote DIGEST --line {line}",
        )
    return registry.path(promoted.digest)
