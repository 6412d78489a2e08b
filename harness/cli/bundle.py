"""`ratchet export` and `ratchet import`: runs as files, and other tools' results as runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.types import Run
    from harness.interop.importers.common import Imported
    from harness.store.store import Store

BUNDLE = "bundle"


def export(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    folder: Annotated[
        Path, typer.Argument(help="The folder to write the bundle into.", show_default=False)
    ],
) -> None:
    """Write a run as a bundle: run.json and Parquet, readable anywhere."""
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.store.bundle import export_run
    from harness.store.runs import require_run
    from harness.store.store import Store

    with Store(Workspace.at()) as store:
        place = export_run(store, require_run(store, run.removeprefix("run:")).id, folder)
    Console().print(f"{run} is in {place}", markup=False, highlight=False, soft_wrap=True)


def import_(
    what: Annotated[
        str,
        typer.Argument(
            help="A bundle's folder, or a kind: lm-eval, lighteval, inspect, evalscope, "
            "opencompass, helm, nemo, promptfoo, csv.",
            show_default=False,
        ),
    ],
    place: Annotated[
        Path | None,
        typer.Argument(
            help="The results: the folder that the tool wrote, the log, the CSV.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="The name of the imported run. A CSV needs one.", show_default=False
        ),
    ] = None,
    lower: Annotated[
        list[str] | None,
        typer.Option(
            "--lower", help="A metric of Inspect, HELM or NeMo for which lower is better."
        ),
    ] = None,
) -> None:
    """Import a run: a bundle, results of another harness, or scores in a CSV.

    ratchet import DIR, or import KIND DIR (lm-eval, lighteval, evalscope, opencompass, helm,
    nemo), import KIND FILE (inspect, promptfoo), import csv FILE --run NAME. Importing twice
    changes nothing. Installed packages may add kinds of results.
    """
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    kind, source = _which(what, place)
    if kind != BUNDLE:
        from harness.interop.importers.kinds import read_kind

        imported = read_kind(kind, source, name=run, lower=lower or ())
    elif run is not None or lower:
        option = "--lower" if lower else "--run"
        raise UserError(
            "a bundle already has its run's name and its metrics' directions",
            field=option,
            hint=f"leave {option} out",
        )
    console = Console()
    with Store(Workspace.at().ensure()) as store:
        if kind != BUNDLE:
            take_in_and_show(store, imported, console)
            return
        from harness.store.bundle import import_bundle

        run_id = import_bundle(store, source)
    console.print(f"run:{run_id} is here", markup=False, highlight=False)


def _which(what: str, place: Path | None) -> tuple[str, Path]:
    """`import DIR` is a bundle; `import KIND PLACE` is what the kind's importer reads."""
    from harness.interop.importers.kinds import IMPORTERS

    known = what == BUNDLE or what in IMPORTERS
    if place is not None:
        if not known:
            raise IMPORTERS.unknown(what)
        return what, place
    if known and not Path(what).is_dir():
        raise UserError(
            f"the file or folder with the results of {what} is missing",
            hint=f"name it: ratchet import {what} PLACE",
        )
    return BUNDLE, Path(what)


def take_in_and_show(store: Store, imported: Imported, console: Console) -> None:
    """Put an imported run into the store, and print its table and what is to be known of it."""
    from rich.text import Text

    from harness.cli.run_table import show_run
    from harness.interop.importers.common import take_in

    found, new = take_in(store, imported)
    if not new:
        console.print(Text("It was here already.", "dim"))
    show_run(found, store, console)
    for name, why in imported.skipped.items():
        console.print(Text(f"left out: {name}: {why}", "yellow"))
    for note in imported.notes:
        console.print(Text(note, "dim"))
    console.print(_next_step(found), markup=False, highlight=False, soft_wrap=True)


def _next_step(found: Run) -> str:
    return f"run:{found.id} is here; next: ratchet gate run:{found.id} --against run:ID"
