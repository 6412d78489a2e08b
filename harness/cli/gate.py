"""`ratchet gate`: scores what is missing, decides, and exits with 0, 1, 2 or 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DeviceOption, DtypeOption, LimitOption, SeedOption
from harness.cli.progress import bars

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.looks import Extend
    from harness.comparison.verdict_log import Decision
    from harness.core.types import Run, VerdictOutcome
    from harness.core.workspace import Workspace
    from harness.evaluation.plan import Extent
    from harness.gate.policy import GatePolicy
    from harness.ratings.verdict import Standing
    from harness.store.store import Store
    from harness.suite.suite import Suite


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
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="A YAML file with a `gate:` block, instead of the suite's.",
            show_default=False,
        ),
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    samples: Annotated[
        bool, typer.Option("--samples", help="Show the ten samples that moved most.")
    ] = False,
    humans: Annotated[
        str | None,
        typer.Option(
            "--humans",
            help="A rating session whose verdict must hold too, at its own alpha.",
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
        typer.Option("--summary", help="On GitHub: step summary, outputs and annotations."),
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Compare a candidate with an anchor. Exits 0 pass, 1 fail, 2 inconclusive, 3 incomparable."""
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.report.console import asked
    from harness.store.store import Store

    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=lambda text: console.print(text, style="dim")) as store:
        parties = _Parties(workspace, store, console, suite, policy, (device, dtype), seed, limit)
        stored = parties.party(candidate), parties.party(against)
        if stored[0] is not None and stored[1] is not None:
            decision = _decide_stored(parties, stored[1], stored[0])
        else:
            decision = _decide(parties, candidate, against)
        people = _ask_people(store, humans, decision)
    _show(decision, console, samples=10 if samples else 0)
    j, looks = decision.verdict.look
    console.print(
        f"spent: {asked(parties.generated, parties.read)}, look {j} of {looks}",
        style="dim",
        highlight=False,
    )
    _write(decision, json_file, markdown, junit)
    if summary:
        _tell_github(decision, console)
    outcome = decision.verdict.outcome
    if people is not None:
        outcome = _show_people(people, outcome, console)
    raise typer.Exit(outcome.exit_code)


def _decide(parties: _Parties, candidate: str, against: str) -> Decision:
    """Score what is missing on either side, look by look."""
    from harness.comparison.calibrations import calibrated
    from harness.comparison.looks import decide_by_looks

    suite = parties.suite_for(candidate, against)
    policy, notes = calibrated(parties.store, suite.digest, parties.policy_for(suite))
    looks = policy.looks or (1.0,)
    with bars(parties.console) as progress:
        parties.progress = progress
        return decide_by_looks(
            parties.extend(candidate, suite),
            {"anchor": parties.party(against) or parties.extend(against, suite)},
            suite,
            parties.store,
            policy,
            looks=looks,
            notes=notes,
            on_look=parties.on_look,
        )[0]


def _decide_stored(parties: _Parties, anchor: Run, candidate: Run) -> Decision:
    """Both runs are here, with all their samples: no suite and no model is needed."""
    from harness.comparison.calibrations import calibrated
    from harness.comparison.stored_runs import decide_stored

    policy, said = parties.policy_of_runs(anchor, candidate)
    policy, notes = calibrated(parties.store, anchor.suite_digest, policy)
    notes = {"policy": said, **notes}
    return decide_stored(parties.store, "anchor", anchor, candidate, policy, notes=notes)


@dataclass
class _Parties:
    """The two sides of a comparison, each a stored run or a model that is scored as needed."""

    workspace: Workspace
    store: Store
    console: Console
    suite: Path | None
    policy: Path | None
    hardware: tuple[str, str]
    seed: int
    limit: int | None
    progress: Any = field(default=lambda stage, done, total: None)
    known: dict[str, Run | None] = field(default_factory=dict)
    generated: int = 0
    read: int = 0

    def party(self, name: str) -> Run | None:
        """The stored run of that name; None where it names a model."""
        from harness.evaluation.references import find_named_run

        if name not in self.known:
            self.known[name] = find_named_run(name, self.store)
        return self.known[name]

    def suite_for(self, *names: str) -> Suite:
        from harness.core.errors import UserError
        from harness.evaluation.references import suite_of
        from harness.suite.load import load_suite

        if self.suite is not None:
            return load_suite(self.suite)
        for name in names:
            run = self.party(name)
            if run is not None:
                return load_suite(suite_of(run, self.store))
        raise UserError("on which suite?", field="--suite", hint="name it with --suite FILE")

    def policy_for(self, suite: Suite) -> GatePolicy:
        from harness.comparison.stored_runs import read_policy

        names = [f"{task.name}/{metric.spec.name}" for task, metric in suite.metrics()]
        return suite.policy if self.policy is None else read_policy(self.policy, names)

    def policy_of_runs(self, anchor: Run, candidate: Run) -> tuple[GatePolicy, str]:
        """A named file's policy, else that of the suite the anchor was scored on if that is
        here, else the default; and a word on which it is.
        """
        from harness.comparison.stored_runs import metrics_of, read_policy
        from harness.core.errors import UserError
        from harness.evaluation.references import suite_of
        from harness.gate.policy import GatePolicy

        path = self.policy or self.suite
        if path is not None:
            return read_policy(path, metrics_of(anchor)), f"of {path.name}"
        for run in (anchor, candidate):
            try:
                path = suite_of(run, self.store)
            except UserError:
                continue
            return read_policy(path, metrics_of(anchor)), f"of {path.name}"
        return GatePolicy(), "the default: every metric required, margin 5%"

    def extend(self, name: str, suite: Suite) -> Extend:
        """Scores the model of that name as far as a look asks; a stored run stays as it is."""
        from harness.evaluation.open_model import Hardware, open_model
        from harness.evaluation.runner import score

        run = self.party(name)
        if run is not None:
            return lambda extent: run
        model = open_model(
            name,
            self.workspace,
            self.store,
            hardware=Hardware.choose(*self.hardware),
            say=lambda text: self.console.print(text, style="dim", markup=False),
        )

        def scored(extent: Extent) -> Run:
            report = score(
                model,
                suite,
                self.store,
                seed=self.seed,
                limit=self.limit,
                extent=extent,
                progress=self.progress,
            )
            self.generated += report.generated
            self.read += report.read
            return report.run

        return scored

    def on_look(self, look: int, looks: int, extent: Extent) -> None:
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


def _show(decision: Decision, console: Console, *, samples: int) -> None:
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
    console.print(verdict_view(decision.verdict, samples=samples))
    for name, note in decision.verdict.notes.items():
        console.print(Text(f"{name}: {note}", style="dim"))


def _write(
    decision: Decision, json_file: Path | None, markdown: Path | None, junit: Path | None
) -> None:
    from harness.core.files import write_atomic

    if json_file is not None:
        from harness.report.document import to_json

        write_atomic(json_file, to_json(decision.verdict) + "\n")
    if markdown is not None:
        from harness.report.markdown import to_markdown

        write_atomic(markdown, to_markdown(decision.verdict))
    if junit is not None:
        from harness.report.junit import to_junit

        write_atomic(junit, to_junit(decision.verdict))


def _tell_github(decision: Decision, console: Console) -> None:
    """Into the files that a workflow's step is given; elsewhere there is nobody to tell."""
    import os

    from harness.report.github import annotate, outputs, step_summary

    summary, variables = os.environ.get("GITHUB_STEP_SUMMARY"), os.environ.get("GITHUB_OUTPUT")
    if summary is None and variables is None:
        console.print("--summary: this is not a step of a GitHub workflow", style="dim")
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
