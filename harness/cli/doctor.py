"""`ratchet doctor`: what is installed, what is missing, and what to type."""

from __future__ import annotations

from typing import Annotated

import typer

SIGNS = {"ok": ("✓", "green"), "missing": ("–", "dim"), "broken": ("✗", "bold red")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what this machine has, what is missing, and how to install it.

    Exits 0 where Ratchet can run, 3 where something that it needs is missing.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from harness.cli.machine import examine
    from harness.core.workspace import Workspace

    console = Console(soft_wrap=True)
    group, broken = "", 0
    for finding in examine(Workspace.at()):
        broken += finding.state == "broken"
        if as_json:
            console.out(json.dumps(asdict(finding), ensure_ascii=False), highlight=False)
            continue
        if finding.group != group:
            group = finding.group
            console.print(Text(group, "bold"))
        sign, style = SIGNS[finding.state]
        line = Text.assemble((f"  {sign} ", style), finding.name)
        said = Text(finding.said, "dim")
        if line.cell_len + 2 + said.cell_len <= console.width:
            console.print(line.append("  ").append(said) if finding.said else line)
        else:
            console.print(line)
            console.print(Padding(said, (0, 0, 0, 6), expand=False), soft_wrap=False)
        if finding.hint:
            console.print(Text(f"      {finding.hint}"))
    if not as_json:
        console.print(
            Text(f"{broken} things that Ratchet needs are missing", "bold red")
            if broken
            else Text("Ratchet can run here. What is marked – is optional.", "bold")
        )
        console.print(
            Text("Completion of this command in your shell: ratchet --install-completion")
        )
    raise typer.Exit(3 if broken else 0)
