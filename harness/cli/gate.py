"""`ratchet gate`: scores what is missing, decides, and exits with 0, 1, 2 or 3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    ALL_SHOWS,
    AllOption,
    DeviceOption,
    DtypeOption,
    LimitOption,
    SeedOption,
)
from harness.cli.progress import bars
from harness.cli.session import in_passing

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.verdict_log import Decision
    from harness.core.types import VerdictOutcome
    from harness.evaluation.plan import Extent
    from harness.evaluation.runner import RunReport
    from harness.ratings.verdict import Standing
    from harness.store.store import Store


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
        typer.Option(
            "--suite",
            "-s",
            help="The suite, a YAML file. Default: the runs' own.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="A YAML file whose `gate:` block replaces the suite's.",
            show_default=False,
        ),
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    samples: Annotated[
        bool, typer.Option("--samples", help="Show the ten samples that moved most.")
    ] = False,
    everything: AllOption = False,
    humans: Annotated[
        str | None,
        typer.Option(
            "--humans",
            help="A rating session that must pass as well, at its own alpha.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the verdict here as JSON.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the verdict here as Markdown.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the verdict here as JUnit XML.")
    ] = None,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="In a GitHub workflow: write summary, outputs, annotations."
        ),
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Compare a candidate with an anchor, scoring what is missing first.

    Exits 0 pass, 1 fail, 2 inconclusive, 3 incomparable.
    """
    from rich.console import Console

    from harness.comparison.service import gate as decide
    from harness.core.workspace import Workspace
    from harness.report.console import asked
    from harness.store.store import Store

    console = Console()
    told = _Told(console)
    with Store(Workspace.at().ensure(), on_wait=in_passing(console)) as store:
        with bars(console) as progress:
            decision = decide(
                candidate,
                against,
                store=store,
                suite=suite,
                policy=policy,
                limit=limit,
                seed=seed,
                device=device,
                dtype=dtype,
                on_look=told.look,
                on_scored=told.scored,
                progress=progress,
                say=told.say,
            )
        people = _ask_people(store, humans, decision)
        why = _why(store, decision) if markdown is not None else ""
    _show(decision, console, samples=10 if samples else 0, everything=everything)
    j, looks = decision.verdict.look
    console.print(
        f"spent: {asked(told.generated, told.read)}, look {j} of {looks}",
        style="dim",
        highlight=False,
    )
    _write(decision, json_file, markdown, junit, why)
    if summary:
        _tell_github(decision, console)
    outcome = decision.verdict.outcome
    if people is not None:
        outcome = _show_people(people, outcome, console)
    raise typer.Exit(outcome.exit_code)


@dataclass
class _Told:
    """What the terminal says while a comparison goes on, and what was asked of models in all."""

    console: Console
    generated: int = 0
    read: int = 0

    def say(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False)

    def scored(self, report: RunReport) -> None:
        self.generated += report.generated
        self.read += report.read

    def look(self, look: int, looks: int, extent: Extent) -> None:
        if looks > 1:
            self.console.print(
                f"Look {look} of {looks}: {extent.responses} × the sampled answers, "
                f"{extent.reserve:.0%} of the reserve",
                style="dim",
                highlight=False,
            )


def _ask_people(store: Store, session: str | None, decision: Decision) -> Standing | None:
    if session is None:
        return None
    from harness.ratings.gate import people_on

    return people_on(store, session, decision.anchor, decision.candidate)


def _show_people(people: Standing, outcome: VerdictOutcome, console: Console) -> VerdictOutcome:
    """Print what people say, and return the outcome of both together."""
    from rich.text import Text

    from harness.ratings.gate import together
    from harness.report.console import verdict_view

    console.print(Text(f"\nPeople, by {people.votes} votes: {people.sentence}", style="bold"))
    if people.verdict is not None:
        console.print(verdict_view(people.verdict))
    return together(outcome, people)


def _show(decision: Decision, console: Console, *, samples: int, everything: bool) -> None:
    from rich.text import Text

    from harness.core.fingerprint import part_differences
    from harness.report.console import verdict_view

    anchor, candidate = decision.anchor, decision.candidate
    console.print(Text(f"{candidate.model} (run:{candidate.id})", style="bold"))
    console.print(Text(f"against {anchor.model} (run:{anchor.id})"))
    for difference in part_differences(anchor.fingerprint.subject, candidate.fingerprint.subject):
        console.print(Text(f"  compared: {difference}", style="dim"))
    changed = part_differences(anchor.fingerprint.provenance, candidate.fingerprint.provenance)
    for difference in changed:
        console.print(Text(f"  warning: provenance differs: {difference}", style="yellow"))
    view = verdict_view(decision.verdict, samples=samples, everything=everything, more=ALL_SHOWS)
    console.print(view)
    for name, note in decision.verdict.notes.items():
        console.print(Text(f"{name}: {note}", style="dim"))


def _why(store: Store, decision: Decision) -> str:
    """Why it came out as it did, where it is a FAIL or INCONCLUSIVE."""
    from harness.core.types import VerdictOutcome
    from harness.report.explained import explained_markdown

    if decision.verdict.outcome not in (VerdictOutcome.FAIL, VerdictOutcome.INCONCLUSIVE):
        return ""
    return explained_markdown(store, store.workspace, decision.id)


def _write(
    decision: Decision,
    json_file: Path | None,
    markdown: Path | None,
    junit: Path | None,
    why: str,
) -> None:
    from harness.core.files import write_atomic

    if json_file is not None:
        from harness.report.document import to_json

        write_atomic(json_file, to_json(decision.verdict) + "\n")
    if markdown is not None:
        from harness.report.markdown import to_markdown

        write_atomic(markdown, to_markdown(decision.verdict, why=why))
    if junit is not None:
        from harness.report.junit import to_junit

        write_atomic(junit, to_junit(decision.verdict))


def _tell_github(decision: Decision, console: Console) -> None:
    """Write summary and outputs to the files that GitHub names; outside a workflow, say so."""
    import os

    from harness.report.github import annotate, outputs, step_summary

    summary, variables = os.environ.get("GITHUB_STEP_SUMMARY"), os.environ.get("GITHUB_OUTPUT")
    if summary is None and variables is None:
        console.print(
            "--summary does nothing here: this is not a step of a GitHub workflow", style="dim"
        )
        return
    for line in annotate(decision.verdict):
        console.out(line, highlight=False)
    for name, text in (
        (summary, step_summary(decision.verdict)),
        (variables, outputs(decision.verdict)),
    ):
        if name is not None:
            with Path(name).open("a", encoding="utf-8") as file:
                file.write(text)
