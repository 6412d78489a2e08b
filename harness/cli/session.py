"""Opens the workspace that a verb was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from harness.store.store import Store


def in_passing(console: Console) -> Callable[[str], None]:
    """A function that prints a line dimmed: what a verb waits for, or does on the way."""
    return lambda text: console.print(text, style="dim", markup=False)


@contextmanager
def open_workspace(*, make: bool = True) -> Iterator[tuple[Store, Registry, Console]]:
    """The workspace of --home with its store, its registry and a console; closed at the end.

    With `make` false nothing is created, and UserError is raised where there is none.
    """
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.registry.registry import Registry
    from harness.store.store import Store

    console = Console()
    waiting = in_passing(console)
    workspace = Workspace.at().ensure() if make else Workspace.at().require()
    with Store(workspace, on_wait=waiting) as store:
        yield store, Registry(workspace, store, on_wait=waiting), console
