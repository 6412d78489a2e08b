"""From a model's name to a candidate that answers: which backend, which device, which dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import BlindError, Candidate
from harness.backends.openers import Hardware, Opening, open_prefixed, prefix_of
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from harness.backends.ray.cluster import Cluster
    from harness.models.kept_base import KeptBase


def open_model(
    name: str,
    workspace: Workspace,
    store: Store,
    *,
    hardware: Hardware | None = None,
    base: str | None = None,
    cluster: Cluster | None = None,
    kept: KeptBase | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Candidate:
    """The model of that name; its weights are loaded only when it has to answer.

    Takes a folder, a hub id, the embedded model's name, `line:NAME`, or `PREFIX:…` of a backend: a
    server's `openai:URL#MODEL` or `openai:FILE.yaml`, `vllm:MODEL` for vLLM in this process, or
    what an installed package adds. Raises UserError otherwise.

    `base` names the model under an adapter, in place of the one that the adapter's config names.
    `say` is called with a sentence before what takes long. With a `cluster` the weights are loaded
    there, once per replica; answers are cached under the same keys as without. Models that are
    opened with the same `kept` and asked one after the other share a base.
    """
    if name.startswith("line:"):
        place = str(_promoted_folder(name, workspace, store))
    elif (prefix := prefix_of(name)) is not None:
        if cluster is not None:
            raise UserError(
                f"{prefix} models can't be spread over Ray: they batch by themselves",
                hint="leave out --executor ray, or name the folder or hub id of the weights",
            )
        rest = name.removeprefix(f"{prefix}:")
        return open_prefixed(Opening(name, rest, workspace, hardware, base, say), prefix)
    else:
        place = name
    from harness.backends.asking import asking
    from harness.models.own_code import require_no_own_code
    from harness.models.resolve import load, quantisation_of, resolve

    hardware = hardware or Hardware.choose()
    files = resolve(place, workspace, base=base, say=say)
    subject = {
        "backend": "transformers",
        "dtype": hardware.dtype,
        "quantisation": quantisation_of(files),
        **asking(files, workspace),
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
        say(f"Loading {name} ({hardware})")
        read = load if kept is None else kept.load
        model, tokenizer = read(files, dtype=hardware.dtype, device=hardware.device)
        return TransformersBackend(model, tokenizer)

    def tokenizer() -> Any:
        from transformers import AutoTokenizer

        require_no_own_code(files.name, files.folder)
        return AutoTokenizer.from_pretrained(files.tokenizer)

    def see() -> Callable[[], Backend]:
        from harness.backends.transformers.pictures import PictureBackend, require_sight

        if cluster is not None:
            raise BlindError("pictures can't be asked about over Ray yet")
        require_sight(files)

        def seeing() -> Backend:
            say(f"Loading {name} with its vision ({hardware})")
            model, own = load(files, dtype=hardware.dtype, device=hardware.device, whole=True)
            return PictureBackend(model, own, files.folder)

        return seeing

    return Candidate(name, files.digest, subject, opened, tokenizer, see)


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
