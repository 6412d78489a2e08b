"""`ratchet data gate`: whether what is learned from one version of the data is worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.comparison.verdict_log import Decision
    from harness.core.types import Run
    from harness.store.store import Store
    from trainers.cli.console import ConsoleReporter
    from trainers.data.gate import DataVerdict
    from trainers.loop.data_trainings import Versions


def gate(
    candidate: Annotated[
        str, typer.Argument(help="The new version: dataset:NAME@v2, a file or a folder of rows.")
    ],
    against: Annotated[
        str,
        typer.Option("--against", help="The version before, named alike.", show_default=False),
    ],
    recipe: Annotated[
        Path,
        typer.Option("--recipe", "-r", help="What is trained on both.", show_default=False),
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", min=2, help="Trainings on each version.", metavar="N")
    ] = 3,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every row of the verdict.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the verdict here as JSON.")
    ] = None,
) -> None:
    """Train a recipe on two versions of its data, and decide over samples and over seeds.

    Exits 0 pass, 1 fail, 2 inconclusive, 3 incomparable.
    """
    from harness.core.files import write_atomic
    from harness.core.quiet import quiet
    from harness.core.workspace import Workspace
    from harness.report.document import to_json
    from harness.store.store import Store
    from trainers.cli.console import ConsoleReporter
    from trainers.loop.data_trainings import Versions, require_clean, train_both

    quiet()
    versions = Versions.of(recipe, against, candidate)
    workspace = Workspace.at()
    with Store(workspace.ensure()) as store, ConsoleReporter() as reporter:
        require_clean(versions, workspace, reporter)
        chosen = versions.seeds(seeds)
        trained = list(train_both(versions, chosen, workspace, store, reporter))
        found, decision = _decided(versions, trained, store)
        _show(found, decision, trained, store, reporter, everything=everything)
    if json_file is not None:
        write_atomic(json_file, to_json(decision.verdict) + "\n")
    raise typer.Exit(decision.verdict.outcome.exit_code)


def _decided(
    versions: Versions, trained: list[tuple[int, Run, Run]], store: Store
) -> tuple[DataVerdict, Decision]:
    """The verdict, stored as one on the first seed's two runs; its notes name all of them."""
    from harness.comparison.calibrations import calibrated
    from harness.comparison.stored_runs import scores_of_both
    from harness.comparison.verdict_log import keep
    from harness.store.runs import now
    from trainers.data.gate import decide_data

    suite = versions.recipe.stages[0].suite
    policy, notes = calibrated(store, suite.digest, suite.policy)
    scores = {seed: scores_of_both(store, a, c, policy) for seed, a, c in trained}
    found = decide_data(scores, policy, today=now().date())
    verdict = found.verdict.with_note(
        **notes,
        data=f"{versions.candidate} against {versions.anchor}, by {versions.path.name}",
        runs="; ".join(f"seed {seed}: {c.id} against {a.id}" for seed, a, c in trained),
        samples=found.by_sample.headline,
        seeds=found.by_seed.headline,
    )
    _, anchor, run = trained[0]
    return found, keep(store, "data", anchor, run, verdict)


def _show(
    found: DataVerdict,
    decision: Decision,
    trained: list[tuple[int, Run, Run]],
    store: Store,
    reporter: ConsoleReporter,
    *,
    everything: bool,
) -> None:
    from rich.text import Text

    from harness.cli.options import ALL_SHOWS
    from harness.report.console import STYLES, verdict_view
    from harness.report.table import FittedTable

    console = reporter.console
    console.print(Text("\nOver samples, the answers of all seeds together", "bold"))
    console.print(verdict_view(found.by_sample, everything=everything, more=ALL_SHOWS))
    console.print(Text("\nOver seeds, each as one observation", "bold"))
    rows = {row.metric for row in found.by_seed.rows if row.required or everything}
    table = FittedTable(["metric", "seed", "anchor", "candidate"], left=frozenset(["metric"]))
    for name, seed, *values in _by_seed(trained, store, rows):
        table.add(name, str(seed), *values)
    console.print(table)
    console.print(Text(f"\n{found.by_seed.headline}", STYLES[found.by_seed.outcome]))
    room = found.scarcest
    if room is not None:
        needed = f"about {room.needed} seeds" if room.needed else "over a thousand seeds"
        console.print(
            Text(
                f"As {room.metric} differs between seeds, {len(trained)} of them show a drop of "
                f"{room.visible:.1%} in four cases of five; {room.margin:.1%} takes {needed}."
            )
        )
    verdict = decision.verdict
    console.print(Text(f"\nThe data: {verdict.outcome.value.upper()}", STYLES[verdict.outcome]))
    console.print(Text(f"why: ratchet explain {decision.id}", "dim"))


def _by_seed(
    trained: list[tuple[int, Run, Run]], store: Store, metrics: set[str]
) -> list[tuple[str, int, str, str]]:
    from harness.comparison.evidence import summarize
    from harness.core.format import number

    rows = []
    for seed, *runs in trained:
        sides = [{s.metric: s.estimate.value for s in summarize(store, run)} for run in runs]
        rows += [
            (name, seed, number(sides[0][name]), number(sides[1].get(name)))
            for name in sides[0]
            if name in metrics
        ]
    return sorted(rows)
