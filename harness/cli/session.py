"""Opens the workspace that a verb was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from harness.store.store import Store


@contextmanager
def open_workspace() -> Iterator[tuple[Store, Registry, Console]]:
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.registry.registry import Registry
    from harness.store.store import Store

    console = Console()

    def waiting(text: str) -> None:
        console.print(text, style="dim", markup=False)

    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=waiting) as store:
        yield store, Registry(workspace, store, on_wait=waiting), console
