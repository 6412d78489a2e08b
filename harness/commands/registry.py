"""`ratchet promote`, `rollback`, `history`, `verify`, `prune`: what is blessed, since when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.lines import Blessed
    from harness.registry import Registry
    from harness.store import Store

LineOption = Annotated[str, typer.Option("--line", "-l", help="The line.", show_default=False)]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]
BaselinesOption = Annotated[
    Path | None,
    typer.Option(
        "--baselines",
        help="The folder of committed bundles, one per line. Default: ./baselines if it is there.",
    ),
]


def promote(
    checkpoint: Annotated[
        str, typer.Argument(help="A digest, the beginning of one, or a model's folder.")
    ],
    line: LineOption,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", help="The verdict it stands on. Default: its run's latest."),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Promote without a pass; the reason is kept for ever."),
    ] = None,
    reason: ReasonOption = None,
    baselines: BaselinesOption = None,
) -> None:
    """Bless a checkpoint, and write its run's bundle under baselines/ for review."""
    baselines = _baselines(baselines)
    with _open() as (store, registry, console):
        folder = Path(checkpoint)
        digest = registry.add(folder) if folder.is_dir() else registry.path(checkpoint).name
        blessed = registry.promote(
            line,
            digest,
            verdict_id=verdict or registry.latest_verdict(digest),
            override=override,
            reason=reason,
        )
        _show(console, blessed, "blessed")
        if baselines is not None and blessed.run_id is not None:
            from harness.bundle import export_run

            place = export_run(store, blessed.run_id, baselines / line)
            console.print(f"bundle for review: {place}", markup=False, highlight=False)
        elif baselines is not None:
            console.print("no bundle: this checkpoint was never scored", style="yellow")


def rollback(
    line: Annotated[str, typer.Argument(help="The line.")],
    to: Annotated[
        str | None, typer.Option("--to", help="An earlier digest. Default: the one before.")
    ] = None,
    reason: ReasonOption = None,
) -> None:
    """Bless an earlier version of a line again."""
    with _open() as (_, registry, console):
        _show(console, registry.rollback(line, to, reason=reason), "blessed again")


def history(
    line: Annotated[str | None, typer.Argument(help="The line. Default: all of them.")] = None,
) -> None:
    """List what was blessed, by whom, and on which verdict; the newest last."""
    from rich.table import Table

    with _open() as (_, registry, console):
        names = [line] if line else registry.lines()
        if not names:
            console.print("nothing was ever promoted here")
        for name in names:
            table = Table("", "digest", "what", "when (UTC)", "who", "verdict", "why", title=name)
            for version in registry.history(name):
                why = f"override: {version.override}" if version.override else version.reason
                table.add_row(
                    str(version.number),
                    version.digest[:12],
                    version.event.replace("_", " "),
                    version.at[:19].replace("T", " "),
                    version.actor,
                    version.verdict_id or "none",
                    why or "",
                )
            console.print(table)


def verify(
    line: Annotated[str | None, typer.Argument(help="The line. Default: everything.")] = None,
    baselines: BaselinesOption = None,
) -> None:
    """Check pointers, every byte of the checkpoints, and the journals. Exits 1 if any is wrong."""
    with _open() as (store, registry, console):
        problems = registry.verify(line, baselines=_baselines(baselines)) + store.problems()
        for problem in problems:
            console.print(f"✗ {problem}", markup=False, highlight=False, soft_wrap=True)
        if problems:
            raise typer.Exit(1)
        console.print("all is well")


def prune(
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Blessed versions of each line to keep.")
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Default: only say what.")] = False,
    baselines: BaselinesOption = None,
) -> None:
    """Show what could be freed, and with --yes free it."""
    from rich.table import Table

    with _open() as (_, registry, console):
        found = registry.prune(keep=keep, dry_run=not yes, baselines=_baselines(baselines))
        table = Table("checkpoint", "MB", "")
        for digest, size in found.freed:
            table.add_row(digest[:12], f"{size / 1e6:.1f}", "freed" if yes else "would be freed")
        for digest, why in found.kept:
            table.add_row(digest[:12], "", f"kept: {why}")
        console.print(table)
        done = "freed" if yes else "to be freed"
        console.print(f"{len(found.freed)} checkpoints, {found.bytes / 1e6:.1f} MB {done}")
        if found.freed and not yes:
            console.print(f"do it: ratchet prune --keep {keep} --yes")


def _baselines(named: Path | None) -> Path | None:
    usual = Path("baselines")
    if named is not None and not named.is_dir():
        raise UserError("there is no such folder of baselines", file=named)
    return named or (usual if usual.is_dir() else None)


@contextmanager
def _open() -> Iterator[tuple[Store, Registry, Console]]:
    from rich.console import Console

    from harness.registry import Registry
    from harness.store import Store
    from harness.workspace import Workspace

    console = Console()

    def waiting(text: str) -> None:
        console.print(text, style="dim", markup=False)

    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=waiting) as store:
        yield store, Registry(workspace, store, on_wait=waiting), console


def _show(console: Console, blessed: Blessed, done: str) -> None:
    text = f"{blessed.line} version {blessed.number}: {blessed.digest[:12]} is {done}"
    console.print(text, markup=False, highlight=False)
    if blessed.override:
        console.print(f"by override: {blessed.override}", style="yellow", markup=False)
    elif blessed.verdict_id is None and blessed.event == "promoted":
        console.print("the first of its line: it was held against nothing", style="yellow")
    console.print(
        f"follow {blessed.path.parent.parent / 'lines' / blessed.line / 'blessed'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
