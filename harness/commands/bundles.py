"""`ratchet export` and `ratchet import`: a run as files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    folder: Annotated[Path, typer.Argument(help="Where the bundle goes.", show_default=False)],
) -> None:
    """Write a run as a bundle: run.json and Parquet, readable anywhere."""
    from rich.console import Console

    from harness.bundle import export_run
    from harness.runs import require_run
    from harness.store import Store
    from harness.workspace import Workspace

    with Store(Workspace.at()) as store:
        place = export_run(store, require_run(store, run.removeprefix("run:")).id, folder)
    Console().print(f"{run} is in {place}", markup=False, highlight=False, soft_wrap=True)


def import_(
    folder: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
) -> None:
    """Take a bundle into this workspace. Doing it twice changes nothing."""
    from rich.console import Console

    from harness.bundle import import_bundle
    from harness.store import Store
    from harness.workspace import Workspace

    with Store(Workspace.at()) as store:
        run_id = import_bundle(store, folder)
    Console().print(f"run:{run_id} is here", markup=False, highlight=False)
