"""`ratchet problems`: how a run's programs ended, problem by problem."""

from __future__ import annotations

from typing import Annotated

import typer


def problems(
    run: Annotated[str, typer.Argument(help="The run's id, or run:ID.")],
    unsolved: Annotated[
        bool, typer.Option("--unsolved", help="Only problems that no try has passed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show how a run's programs ended, problem by problem, and what its Pass@k can claim."""
    from rich.console import Console

    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.report.failures import claims, outcome_sentences
    from harness.report.failures import problems as problems_of
    from harness.store.runs import require_run
    from harness.store.store import Store

    console = Console()
    with Store(Workspace.at()) as store:
        found = require_run(store, run.removeprefix("run:"))
        rows = problems_of(store, found)
        said = [*outcome_sentences(store, found), *claims(store, found)]
    if not rows:
        raise UserError(
            f"run {found.id} ran no programs",
            hint="score a suite with the metric code_tests, such as suites/code.yaml",
        )
    shown = [row for row in rows if not (unsolved and row.passed)]
    if as_json:
        import dataclasses
        import json

        for row in shown:
            console.out(json.dumps(dataclasses.asdict(row), ensure_ascii=False), highlight=False)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("problem")
    table.add_column("passed", justify="right", no_wrap=True)
    table.add_column("CPU s", justify="right", no_wrap=True)
    table.add_column("otherwise")
    for row in shown:
        otherwise = [f"{label} {n}" for label, n in row.labels.most_common() if label != "pass"]
        _, _, detail = (row.reason or "").partition(" ")
        table.add_row(
            row.sample_id,
            f"{row.passed} of {row.tries}",
            f"{row.cpu_s:.2f}",
            Text.assemble(", ".join(otherwise), (f"  {detail[:120]}", "dim")),
        )
    console.print(table)
    for sentence in said:
        console.print(Text(sentence))
