"""`ratchet data`: versions of a data set, built from one YAML, shown and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainers.cli.data_gate import gate

if TYPE_CHECKING:
    from harness.data.datasets import Version

data = typer.Typer(
    help="Build training data as versions, look at them, and gate them.", no_args_is_help=True
)

PipelinePath = Annotated[
    Path, typer.Argument(help="The pipeline, a YAML file.", show_default=False)
]
Named = Annotated[
    str, typer.Argument(help="NAME@v3, NAME for the newest, or a folder.", show_default=False)
]


@data.callback()
def _data() -> None:
    """Build training data as versions, look at them, and gate them."""


@data.command()
def build(pipeline: PipelinePath) -> None:
    """Run a pipeline's steps, and write what is left as a version: datasets/NAME/vN."""
    from rich.console import Console

    from harness.cli.progress import bars
    from harness.core.workspace import Workspace
    from harness.data.datasets import numbers_of
    from trainers.cli.data_tables import show_figures, show_version
    from trainers.data.build import build as built_from
    from trainers.data.pipeline import load_pipeline
    from trainers.data.requirements import figures
    from trainers.data.versions import write_version

    loaded = load_pipeline(pipeline)
    cache = Workspace.at().ensure().cache / "data"
    console = Console()
    with bars(console) as progress:
        built = built_from(loaded, cache, progress)
        before = numbers_of(loaded.target)
        progress("requirements", 0, 1)
        found = figures(loaded.model.requirements, built.rows, loaded.folder)
        refused = [figure for figure in found if figure.outcome == "refused"]
        progress("writing", 0, 1)
        version = None if refused else write_version(loaded, built, found)
    if version is None:
        show_figures(found, console)
        console.print("refused: no version is written", style="bold red")
        raise typer.Exit(1)
    show_version(version, console, cached={p.name for p in built.passed if p.cached})
    if version.number in before:
        console.print(f"nothing is new: {version} holds these rows already", highlight=False)


@data.command()
def check(
    pipeline: PipelinePath,
    source: Annotated[
        str | None, typer.Option("--source", help="Other rows than the pipeline's sources.")
    ] = None,
) -> None:
    """Hold rows as they are against a pipeline's requirements and its suites; build nothing.

    Exits 1 where a requirement refuses them, or a sample of a suite is among them.
    """
    from rich.console import Console

    from trainers.cli.data_tables import show_check
    from trainers.data.check import checked
    from trainers.data.pipeline import load_pipeline

    found = checked(load_pipeline(pipeline), source)
    show_check(found, Console())
    if not found.holds:
        raise typer.Exit(1)


@data.command()
def show(version: Named) -> None:
    """What a version holds, and what became of every row: steps, reasons, examples."""
    from rich.console import Console

    from trainers.cli.data_tables import show_drops, show_version

    console = Console()
    found = _version(version)
    show_version(found, console)
    show_drops(found, console)


@data.command()
def diff(old: Named, new: Named) -> None:
    """What came, went and changed from one version to another, and for which reasons."""
    from rich.console import Console

    from trainers.cli.data_tables import show_difference
    from trainers.data.difference import compared

    show_difference(compared(_version(old), _version(new)), Console())


data.command("gate")(gate)


def _version(name: str) -> Version:
    from harness.data.datasets import META, named_version, read_version

    folder = Path(name)
    if (folder / META).is_file():
        return read_version(folder)
    return named_version(name, Path.cwd(), newest=True)
