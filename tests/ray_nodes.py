"""A Ray cluster of two local nodes, and models that take their replica down with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """Two nodes of one core each, and this process connected to them."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ratchet-eval[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Replicas must find this Ratchet and these tests, wherever another one is installed.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        cluster = Cluster(
            initialize_head=True, head_node_args={**_SMALL, "include_dashboard": False}
        )
        try:
            cluster.add_node(**_SMALL)
            patch.setenv("RAY_ADDRESS", cluster.address)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(**_SMALL)


@dataclass(frozen=True)
class Deadly:
    """Opens the model in `folder`; asked anything with `token`, its process ends.

    With `once`, a file, it does so only until that file is there.
    """

    folder: str
    token: int
    once: str | None = None

    def __call__(self) -> Any:
        from harness.backends.ray.cluster import ModelReplica
        from harness.backends.transformers.backend import TransformersBackend
        from harness.core.workspace import Workspace
        from harness.models.resolve import resolve

        digest = resolve(self.folder, Workspace.at(Path(self.folder).parent / "node")).digest
        backend = ModelReplica(self.folder, None, digest, "cpu", "float32")()
        assert isinstance(backend, TransformersBackend)
        answer = backend.generate

        def generate(requests: Sequence[Any], settings: Any) -> Any:
            if any(self.token in request.prompt_ids for request in requests) and self._first():
                os._exit(1)
            return answer(requests, settings)

        backend.generate = generate  # type: ignore[method-assign]
        return backend

    def _first(self) -> bool:
        if self.once is None:
            return True
        try:
            Path(self.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def dies_while_it_opens() -> Any:
    os._exit(1)
