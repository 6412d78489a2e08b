"""`ratchet sandbox check`: which isolation this machine offers for untrusted programs."""

from __future__ import annotations

import typer

sandbox = typer.Typer(help="Check how untrusted programs are isolated here.", no_args_is_help=True)


@sandbox.callback()
def _sandbox() -> None:
    """Check how untrusted programs are isolated here."""


@sandbox.command()
def check() -> None:
    """Run a program that tries to break out of each tier, and say which tiers hold here."""
    from rich.console import Console
    from rich.table import Table

    from harness.sandbox.tiers import HINTS, HOLDS, TIERS, probe

    console = Console()
    table = Table(title="Sandbox tiers on this machine", show_lines=True)
    for heading in ("tier", "what holds a program", "here", "what to do"):
        table.add_column(heading, overflow="fold")
    found = [probe(tier) for tier in TIERS]
    for result in found:
        table.add_row(
            result.tier,
            HOLDS[result.tier],
            "holds" if result.holds else result.why,
            "" if result.holds else HINTS[result.tier],
        )
    console.print(table)
    best = next((result.tier for result in found if result.holds and result.tier != "C"), None)
    if best is None:
        console.print("Untrusted programs are refused here: neither tier A nor tier B holds.")
        raise typer.Exit(1)
    console.print(f"Untrusted programs run at tier {best}, with the split verdict.")
