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
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite", "-s", help="Decide on this suite. Default: the one it was scored on."
        ),
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", help="Stand on this verdict, and don't decide once more."),
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Promote without a pass; the reason is kept for ever."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0,
            max=1,
            help="What the line may lose in all since version 1. Default: the margin, once.",
        ),
    ] = None,
    reason: ReasonOption = None,
    baselines: BaselinesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Decide once more on fresh answers, promote, and write the bundle under baselines/ for review.

    The first of a line is asked for the suite's absolute requirements only.
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
                "not decided once more: no suite is known, name one with --suite FILE",
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
    """Say why not, and exit as the verdict does; a budget that is spent is a FAIL."""
    from rich.text import Text

    console.print(Text(f"not promoted: {confirmed.refused}", "bold red"))
    console.print('only --override "reason" promotes it, and the reason is kept for ever')
    root_failed = confirmed.root is not None and confirmed.root.verdict.failed
    code = confirmed.verdict.exit_code
    raise typer.Exit(1 if root_failed and code in (0, 2) else code)


def rollback(
    line: Annotated[str, typer.Argument(help="The line.")],
    to: Annotated[
        str | None, typer.Option("--to", help="An earlier digest. Default: the one before.")
    ] = None,
    reason: ReasonOption = None,
) -> None:
    """Promote an earlier version of a line again."""
    with open_workspace() as (_, registry, console):
        _show(console, registry.rollback(line, to, reason=reason), "promoted again")


def history(
    line: Annotated[str | None, typer.Argument(help="The line. Default: all of them.")] = None,
) -> None:
    """List what was promoted, by whom, and on which verdict; the newest last."""
    from rich.table import Table

    with open_workspace() as (_, registry, console):
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
    line: Annotated[str | None, typer.Argument(help="The line. Default: everything.")] = None,
    baselines: BaselinesOption = None,
) -> None:
    """Check pointers, every byte of the checkpoints, and the journals. Exits 1 if any is wrong."""
    with open_workspace() as (store, registry, console):
        problems = registry.verify(line, baselines=_baselines(baselines)) + store.problems()
        for problem in problems:
            console.print(f"✗ {problem}", markup=False, highlight=False, soft_wrap=True)
        if problems:
            raise typer.Exit(1)
        console.print("all is well")


def prune(
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Promoted versions of each line to keep.")
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Default: only say what.")] = False,
    baselines: BaselinesOption = None,
) -> None:
    """Show what could be freed, and with --yes free it."""
    from rich.table import Table

    with open_workspace() as (_, registry, console):
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


def _show(console: Console, promoted: PromotedVersion, done: str) -> None:
    text = f"{promoted.line} version {promoted.number}: {promoted.digest[:12]} is {done}"
    console.print(text, markup=False, highlight=False)
    if promoted.override:
        console.print(f"by override: {promoted.override}", style="yellow", markup=False)
    elif promoted.verdict_id is None and promoted.event == "promoted":
        console.print("the first of its line: it was compared with nothing", style="yellow")
    console.print(
        f"follow {promoted.path.parent.parent / 'lines' / promoted.line / 'blessed'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
