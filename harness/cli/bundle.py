"""`ratchet export` and `ratchet import`: runs as files, and other tools' results as runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.types import Run
    from harness.interop.importers.common import Imported
    from harness.store.store import Store

FORMATS = ("bundle", "lm-eval", "inspect", "csv")


def export(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    folder: Annotated[Path, typer.Argument(help="Where the bundle goes.", show_default=False)],
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
        typer.Argument(help="A bundle's folder; or lm-eval, inspect or csv.", show_default=False),
    ],
    place: Annotated[
        Path | None,
        typer.Argument(help="lm-eval's folder, Inspect's log, the CSV.", show_default=False),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="What the run is called. A CSV needs it.", show_default=False),
    ] = None,
    lower: Annotated[
        list[str] | None,
        typer.Option("--lower", help="A metric of Inspect's of which less is better."),
    ] = None,
) -> None:
    """Take a run in: a bundle, or what lm-eval, Inspect or a CSV measured.

    ratchet import DIR · import lm-eval DIR · import inspect FILE · import csv FILE --run NAME.
    Doing it twice changes nothing.
    """
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    kind, source = _which(what, place)
    read = _reader(kind, source, run, lower or [])
    console = Console()
    with Store(Workspace.at().ensure()) as store:
        if read is not None:
            _take_in(store, read(), console)
            return
        from harness.store.bundle import import_bundle

        run_id = import_bundle(store, source)
    console.print(f"run:{run_id} is here", markup=False, highlight=False)


def _which(what: str, place: Path | None) -> tuple[str, Path]:
    """`import DIR` is a bundle; `import FORMAT PLACE` is what the format says."""
    if place is not None:
        if what not in FORMATS:
            raise UserError(
                f"{what!r} is no format",
                hint=f"ratchet import {'|'.join(FORMATS)} PLACE; or a bundle's folder alone",
            )
        return what, place
    if what in FORMATS and not Path(what).is_dir():
        raise UserError(
            f"what is to be imported from {what}?", hint=f"name its place: ratchet import {what} …"
        )
    return "bundle", Path(what)


def _reader(
    kind: str, place: Path, run: str | None, lower: list[str]
) -> Callable[[], Imported] | None:
    """Reads the run of that kind; None for a bundle. Raises UserError for options amiss."""
    if lower and kind != "inspect":
        raise UserError(
            f"{kind} says itself what is better", field="--lower", hint="leave --lower out"
        )
    if kind == "csv":
        if run is None:
            raise UserError(
                "a CSV doesn't say what was measured", field="--run", hint="name it: --run NAME"
            )
        from harness.interop.importers.csv_scores import read_csv

        return lambda: read_csv(place, name=run)
    if kind == "lm-eval":
        from harness.interop.importers.lm_eval import read_lm_eval

        return lambda: read_lm_eval(place, name=run)
    if kind == "inspect":
        from harness.interop.importers.inspect_log import read_inspect

        return lambda: read_inspect(place, name=run, lower=lower)
    if run is not None:
        raise UserError("a bundle's run has its name", field="--run", hint="leave --run out")
    return None


def _take_in(store: Store, imported: Imported, console: Console) -> None:
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
