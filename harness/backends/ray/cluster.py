"""Connects to a Ray cluster and says how many replicas fit on it."""

from __future__ import annotations

import os
import queue
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from harness.backends.ray.pool import Share
    from harness.models.resolve import ModelFiles

ADDRESS = "RAY_ADDRESS"

CONNECT_S = 60.0
"""How many seconds the cluster's head node may take to answer."""

_KNOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class ModelReplica:
    """Opens a model on the machine on which it is called, if its files have the same digest there.

    `place` and `base` are names as `harness.models.resolve` takes them, `digest` is the one that
    they must have. `unpacked` is the folder in which the command has the files; where a node has
    it too, nothing is unpacked or fetched again. Raises UserError where the files are missing or
    have another digest.
    """

    place: str
    base: str | None
    digest: str
    device: str
    dtype: str
    unpacked: str | None = None

    def __call__(self) -> Backend:
        from harness.backends.transformers.backend import TransformersBackend
        from harness.core.workspace import Workspace
        from harness.models.resolve import load, resolve

        # A node has no workspace: what resolving the name writes is dropped.
        with tempfile.TemporaryDirectory(prefix="ratchet-replica-") as home:
            near = self.unpacked is not None and Path(self.unpacked).is_dir()
            place = str(self.unpacked) if near else self.place
            files = resolve(place, Workspace.at(home), base=self.base)
            if files.digest != self.digest:
                raise UserError(
                    f"{self.place!r} has other files here than on the command's machine",
                    file=files.folder,
                    hint="keep models on a file system that all nodes share, or name a hub id",
                )
            return TransformersBackend(*load(files, dtype=self.dtype, device=self.device))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process is connected to.

    `replicas` is how many are wanted; None: one per GPU, or one per node where there is no GPU.
    """

    replicas: int | None = None

    @property
    def device(self) -> str:
        """`cuda` where a node has a GPU now, else `cpu`."""
        return "cuda" if self._resources().get("GPU", 0) >= 1 else "cpu"

    def share(self, device: str) -> Share:
        """What each replica gets: one GPU; without GPUs, its part of the smallest node's cores.

        Raises UserError for a numbered GPU, since Ray chooses which GPU a replica gets.
        """
        from harness.backends.ray.pool import Share

        if device == "cuda":
            found = int(self._resources().get("GPU", 0))
            return Share(self.replicas or max(1, found), cpus=1, gpus=1)
        if device != "cpu":
            raise UserError(
                f"--device {device} names the device of one machine",
                hint="on a cluster choose --device cpu or --device cuda",
            )
        cores = [
            int(node["Resources"]["CPU"])
            for node in _library().nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ] or [1]
        replicas = self.replicas or len(cores)
        beside = -(-replicas // len(cores))
        return Share(replicas, cpus=max(1, min(cores) // beside))

    def open(
        self,
        opener: ModelReplica,
        files: ModelFiles,
        say: Callable[[str], None] = lambda message: None,
    ) -> Backend:
        """The model on all its replicas. Returns when the first one is ready."""
        from transformers import AutoTokenizer

        from harness.backends.ray.pool import RayPool

        share = self.share(opener.device)
        cores = "1 core" if share.cpus == 1 else f"{share.cpus:g} cores"
        each = "1 GPU" if share.gpus else cores
        noun = "replica" if share.replicas == 1 else "replicas"
        say(f"Opening {share.replicas} {noun} on Ray ({opener.dtype}, {each} each)")
        return RayPool(opener, AutoTokenizer.from_pretrained(files.tokenizer), share, say=say)

    @staticmethod
    def _resources() -> dict[str, float]:
        found: dict[str, float] = _library().cluster_resources()
        return found


def connect(replicas: int | None = None) -> Cluster:
    """Join the cluster at RAY_ADDRESS, else the one that runs on this machine.

    Starts none. Raises UserError where Ray is not installed, or there is no cluster.
    """
    ray = _library()
    if not ray.is_initialized():
        address = os.environ.get(ADDRESS) or "auto"
        _knock(address)
        _join(ray, address)
    return Cluster(replicas)


def _knock(address: str) -> None:
    """Raise UserError where nothing listens at the head's address.

    Asked first, because Ray waits minutes for a head that isn't there, and then ends the process.
    """
    host, _, port = (_remembered() if address == "auto" else address).rpartition(":")
    if not host or "://" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _remembered() -> str:
    """The address of this machine's last `ray start --head`, which may have ended since; or ""."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        return note.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _join(ray: Any, address: str) -> None:
    """Call `ray.init` in a thread, since it can't be interrupted: after `CONNECT_S` it is left
    behind, and UserError is raised.
    """
    said: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def join() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except BaseException as error:  # noqa: BLE001 -- Ray also raises SystemExit
            said.put(error)
        else:
            said.put(None)

    threading.Thread(target=join, daemon=True).start()
    try:
        problem = said.get(timeout=CONNECT_S)
    except queue.Empty:
        raise _unreachable(address, f"no answer in {CONNECT_S:g} s") from None
    if problem is not None:
        raise _unreachable(address, (str(problem).strip() or repr(problem)).splitlines()[0])


def _unreachable(address: str, why: str) -> UserError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return UserError(
        f"no Ray cluster can be reached {where}: {why}",
        hint=f"`ray start --head` starts one; {ADDRESS}=HOST:6379 names another",
    )


def _library() -> Any:
    from harness.backends.ray.pool import library

    return library()


def absolute(name: str) -> str:
    """A model's name as a process in another folder understands it: a path becomes absolute."""
    return str(Path(name).expanduser().absolute()) if Path(name).expanduser().exists() else name
