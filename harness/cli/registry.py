"""`ratchet promote`, `rollback`, `history`, `verify` and `prune`: the versions of a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DeviceOption, DtypeOption
from harness.cli.session import open_workspace
from harness.core.errors import UserError
from harness.core.format import in_todays_words

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.promotion import Confirmation
    from harness.registry.lines import PromotedVersion
    from harness.registry.registry import Registry
    from harness.store.store import Store
    from harness.suite.suite import Suite

LineOption = Annotated[
    str, typer.Option("--line", "-l", help="The line's name.", show_default=False)
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the line's history.")
]
BaselinesOption = Annotated[
    Path | None,
    typer.Option(
        "--baselines",
        help="The folder of committed bundles. Default: ./baselines if it exists.",
    ),
]


def promote(
    checkpoint: Annotated[
        str, typer.Argument(help="A digest, the beginning of one, or a model's folder.")
    ],
    line: LineOption,
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite", "-s", help="The suite to decide on. Default: the one it was scored on."
        ),
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", help="Promote on this verdict's id, without deciding again."),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Promote without a pass, for this reason; it is recorded."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0,
            max=1,
            help="Share that may be lost in all since version 1. Default: the margin.",
        ),
    ] = None,
    reason: ReasonOption = None,
    baselines: BaselinesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Promote a checkpoint on a line, if it passes once more on fresh answers.

    Also writes the run's bundle under baselines/, for review. A line's first
    checkpoint has nothing to be compared with: only the suite's absolute
    requirements count.
    """
    from harness.comparison.service import suite_of_any
    from harness.suite.load import load_suite

    baselines = _baselines(baselines)
    with open_workspace() as (store, registry, console):
        folder = Path(checkpoint)
        digest = registry.add(folder) if folder.is_dir() else registry.path(checkpoint).name
        before = registry.promoted(line)
        if before is not None and before.digest == digest:
            _show(console, before, "promoted already")
            return
        loaded = None
        if verdict is None:
            scored = (registry.run_of(digest), before.run_id if before is not None else None)
            loaded = suite_of_any(store, scored) if suite is None else load_suite(suite)
        confirmed = None
        if verdict is not None and not override:
            _check_verdict(store, registry, line, digest, verdict, console)
        if loaded is not None:
            confirmed = _confirm(
                store, registry, console, line, digest, loaded, budget, (device, dtype)
            )
            if confirmed.refused and not override:
                _refuse(confirmed, console)
        promoted = registry.promote(
            line,
            digest,
            verdict_id=confirmed.verdict_id
            if confirmed is not None
            else verdict or registry.latest_verdict(digest),
            # Where nothing is wrong there is nothing to override, and the history must not say so.
            override=None if confirmed is not None and not confirmed.refused else override,
            reason=reason,
            run_id=confirmed.run.id if confirmed is not None else None,
            expect=before.digest if before is not None else None,
        )
        _show(console, promoted, "promoted")
        if confirmed is None and verdict is None:
            console.print(
                "not decided again on fresh answers: no suite is known, name one with --suite FILE",
                style="yellow",
            )
        if baselines is not None and promoted.run_id is not None:
            from harness.store.bundle import export_run

            place = export_run(store, promoted.run_id, baselines / line)
            console.print(f"bundle for review: {place}", markup=False, highlight=False)
        elif baselines is not None:
            console.print("no bundle: this checkpoint was never scored", style="yellow")
        elif promoted.run_id is not None:
            console.print("no bundle was written: name a folder with --baselines", style="dim")


def _confirm(
    store: Store,
    registry: Registry,
    console: Console,
    line: str,
    digest: str,
    suite: Suite,
    budget: float | None,
    hardware: tuple[str, str],
) -> Confirmation:
    from dataclasses import replace
    from functools import cache

    from rich.text import Text

    from harness.backends.base import Candidate
    from harness.backends.openers import Hardware
    from harness.cli.progress import bars
    from harness.comparison.promotion import confirm
    from harness.core.workspace import Workspace
    from harness.evaluation.open_model import open_model
    from harness.report.console import verdict_view

    chosen = Hardware.choose(*hardware)

    def opened(of: str) -> Candidate:
        place = str(registry.path(of))
        model = open_model(place, Workspace.at(), store, hardware=chosen)
        return replace(model, name=f"{line} {of[:12]}", open=cache(model.open))

    with bars(console) as progress:
        found = confirm(
            registry, store, line, digest, suite, opened, budget=budget, progress=progress
        )
    for note in found.notes:
        console.print(Text(f"decided once more, on {note}", "dim"))
    console.print(verdict_view(found.verdict, everything=True))
    if found.root is not None:
        said = found.root.verdict.headline
        console.print(Text(f"against version 1, for all promotions together: {said}"))
    return found


def _check_verdict(
    store: Store, registry: Registry, line: str, digest: str, verdict: str, console: Console
) -> None:
    """Refuse another checkpoint's verdict, and one that spends more than the line has left."""
    from harness.comparison.promotion import check_verdict
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    def model_digest(of: str) -> str | None:
        try:
            return resolve(str(registry.path(of)), Workspace.at()).digest
        except UserError:
            return None

    root = check_verdict(registry, store, line, digest, verdict, model_digest)
    if root is not None and root.verdict.failed:
        console.print("not promoted: against version 1 of the line it fails", style="bold red")
        console.print(root.verdict.headline, markup=False)
        raise typer.Exit(1)


def _refuse(confirmed: Confirmation, console: Console) -> None:
    """Say why not, and exit with the verdict's code; with 1 where the line's budget is spent."""
    from rich.text import Text

    console.print(Text(f"not promoted: {confirmed.refused}", "bold red"))
    console.print('--override "reason" promotes it all the same, and records the reason')
    root_failed = confirmed.root is not None and confirmed.root.verdict.failed
    code = confirmed.verdict.exit_code
    raise typer.Exit(1 if root_failed and code in (0, 2) else code)


def rollback(
    line: Annotated[str, typer.Argument(help="The line's name.")],
    to: Annotated[
        str | None, typer.Option("--to", help="An earlier digest. Default: the one before.")
    ] = None,
    reason: ReasonOption = None,
) -> None:
    """Promote an earlier version of a line again, the one before by default."""
    with open_workspace(make=False) as (_, registry, console):
        _show(console, registry.rollback(line, to, reason=reason), "promoted again")


def history(
    line: Annotated[str | None, typer.Argument(help="A line's name. Default: all lines.")] = None,
) -> None:
    """List a line's promotions and roll backs, with who and on which verdict; newest last."""
    from rich.table import Table

    with open_workspace(make=False) as (_, registry, console):
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
                    in_todays_words(why or ""),
                )
            console.print(table)


def verify(
    line: Annotated[str | None, typer.Argument(help="A line's name. Default: all lines.")] = None,
    baselines: BaselinesOption = None,
) -> None:
    """Check the lines' pointers, all bytes of the checkpoints, and the journals.

    Exits 1 where anything is wrong.
    """
    with open_workspace(make=False) as (store, registry, console):
        problems = registry.verify(line, baselines=_baselines(baselines)) + store.problems()
        for problem in problems:
            console.print(f"✗ {problem}", markup=False, highlight=False, soft_wrap=True)
        if problems:
            raise typer.Exit(1)
        console.print("all is well")


def prune(
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="How many promoted versions of each line to keep.")
    ] = 3,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete. Default: only show what would go.")
    ] = False,
    baselines: BaselinesOption = None,
) -> None:
    """Show which checkpoints could be deleted to free space; with --yes, delete them."""
    from rich.table import Table

    with open_workspace(make=False) as (_, registry, console):
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
        raise UserError(
            "there is no such folder of baselines",
            file=named,
            hint="make it, or check its spelling",
        )
    return named or (usual if usual.is_dir() else None)


def _show(console: Console, promoted: PromotedVersion, done: str) -> None:
    text = f"{promoted.line} version {promoted.number}: {promoted.digest[:12]} is {done}"
    console.print(text, markup=False, highlight=False)
    if promoted.override:
        console.print(f"by override: {promoted.override}", style="yellow", markup=False)
    elif promoted.verdict_id is None and promoted.event == "promoted":
        console.print("the first of its line: there was nothing to compare it with", style="yellow")
    console.print(
        f"servers follow {promoted.path.parent.parent / 'lines' / promoted.line / 'blessed'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
