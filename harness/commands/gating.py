"""`ratchet gate`: score what is missing, decide, and exit 0, 1, 2 or 3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.scoring import DeviceOption, DtypeOption, bars

if TYPE_CHECKING:
    from rich.console import Console

    from harness.gating import Decision, Extend
    from harness.records import Run
    from harness.suite import Suite


def gate(
    candidate: Annotated[
        str, typer.Argument(help="A folder, hub id, run:ID, line:NAME or bundle:DIR.")
    ],
    against: Annotated[
        str,
        typer.Option("--against", help="The anchor, named in the same way.", show_default=False),
    ],
    suite: Annotated[
        Path | None,
        typer.Option("--suite", "-s", help="The suite; a run brings its own.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most N samples a task, by seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the verdict here as JSON.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the verdict here as Markdown.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the verdict here as JUnit XML.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Hold a candidate against an anchor. Exits 0 pass, 1 fail, 2 inconclusive, 3 incomparable."""
    from rich.console import Console

    from harness.gating import decide_by_looks
    from harness.naming import Hardware
    from harness.store import Store
    from harness.workspace import Workspace

    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=lambda text: console.print(text, style="dim")) as store:
        parties = _Parties(
            workspace, store, console, suite, Hardware.choose(device, dtype), seed, limit
        )
        anchor, loaded = parties.party(against), parties.suite_for(candidate, against)
        looks = loaded.policy.looks or (1.0,)
        with bars(console) as progress:
            parties.progress = progress
            decision = decide_by_looks(
                parties.extend(candidate, loaded),
                {"anchor": anchor or parties.extend(against, loaded)},
                loaded,
                store,
                loaded.policy,
                looks=looks if parties.scores_models else looks[:1],
            )[0]
    _show(decision, console)
    _write(decision, json_file, markdown, junit)
    raise typer.Exit(decision.verdict.outcome.exit_code)


class _Parties:
    """The two sides of a comparison, each a stored run or a model that is scored as needed."""

    def __init__(self, workspace, store, console, suite, hardware, seed, limit) -> None:  # type: ignore[no-untyped-def]
        self.workspace = workspace
        self.store = store
        self.console: Console = console
        self.suite: Path | None = suite
        self.hardware = hardware
        self.seed: int = seed
        self.limit: int | None = limit
        self.progress = lambda stage, done, total: None
        self.scores_models = False

    def party(self, name: str) -> Run | None:
        """The stored run of that name; None where it names a model."""
        from harness.naming import find_named_run

        return find_named_run(name, self.store)

    def suite_for(self, *names: str) -> Suite:
        from harness.errors import UserError
        from harness.naming import suite_of
        from harness.suite import load_suite

        if self.suite is not None:
            return load_suite(self.suite)
        for name in names:
            run = self.party(name)
            if run is not None:
                return load_suite(suite_of(run, self.store))
        raise UserError("on which suite?", field="--suite", cure="name it with --suite FILE")

    def extend(self, name: str, suite: Suite) -> Extend:
        """Scores the model of that name as far as a look asks; a stored run stays as it is."""
        from harness.naming import open_model
        from harness.runner import score

        run = self.party(name)
        if run is not None:
            return lambda extent: run
        self.scores_models = True
        model = open_model(
            name,
            self.workspace,
            self.store,
            hardware=self.hardware,
            say=lambda text: self.console.print(text, style="dim", markup=False),
        )
        return lambda extent: (
            score(
                model,
                suite,
                self.store,
                seed=self.seed,
                limit=self.limit,
                extent=extent,
                progress=self.progress,
            ).run
        )


def _show(decision: Decision, console: Console) -> None:
    from rich.text import Text

    from harness.fingerprint import part_differences
    from harness.report.console import explain, verdict_table

    anchor, candidate = decision.anchor, decision.candidate
    console.print(Text(f"{candidate.model} (run:{candidate.id})", style="bold"))
    console.print(Text(f"against {anchor.model} (run:{anchor.id})"))
    for difference in part_differences(anchor.fingerprint.subject, candidate.fingerprint.subject):
        console.print(Text(f"  compared: {difference}", style="dim"))
    changed = part_differences(anchor.fingerprint.provenance, candidate.fingerprint.provenance)
    for difference in changed:
        console.print(Text(f"  warning: provenance differs: {difference}", style="yellow"))
    console.print(verdict_table(decision.verdict))
    console.print(Text(explain(decision.verdict)))


def _write(
    decision: Decision, json_file: Path | None, markdown: Path | None, junit: Path | None
) -> None:
    from harness.artifacts import write_atomic

    if json_file is not None:
        import json

        text = json.dumps(decision.verdict.to_dict(), ensure_ascii=False, indent=1)
        write_atomic(json_file, text + "\n")
    if markdown is not None:
        from harness.report.markdown import to_markdown

        write_atomic(markdown, to_markdown(decision.verdict))
    if junit is not None:
        from harness.report.junit import to_junit

        write_atomic(junit, to_junit(decision.verdict))
