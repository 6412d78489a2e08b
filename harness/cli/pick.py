"""`ratchet pick`: the best of many, chosen on one half of the samples and decided on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    ALL_SHOWS,
    AllOption,
    DeviceOption,
    DtypeOption,
    LimitOption,
    ModelNames,
    SeedOption,
    SuiteOption,
)
from harness.cli.session import in_passing
from harness.cli.several import named, score_each, short_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from harness.comparison.pick import Picked
    from harness.core.types import Run


def pick(
    models: ModelNames,
    suite: SuiteOption,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="The anchor: a model of the same kinds. Default: the first of MODEL...",
            show_default=False,
        ),
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model under the adapters.")
    ] = None,
    everything: AllOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Choose the best of many on one half of the samples, and decide on the other.

    The winner's own scores flatter it: it won by them. Exits 0 where it passes against the anchor
    on samples that had no part in the choice, 1 fail, 2 inconclusive, 3 incomparable.
    """
    from rich.console import Console

    from harness.backends.openers import Hardware
    from harness.comparison.calibrations import calibrated
    from harness.comparison.pick import WHOLE
    from harness.comparison.pick import halves as divided
    from harness.comparison.pick import pick as choose
    from harness.core.workspace import Workspace
    from harness.evaluation.open_model import open_model
    from harness.evaluation.plan import Scoring
    from harness.models.kept_base import KeptBase
    from harness.store.store import Store
    from harness.suite.load import load_suite

    loaded, names = load_suite(suite), _in_play(models, against)
    divided(loaded, limit=limit, seed=seed)  # what can't be divided is said before it is scored
    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=in_passing(console)) as store:
        hardware, kept = Hardware.choose(device, dtype), KeptBase()
        candidates = [
            open_model(
                name,
                workspace,
                store,
                hardware=hardware,
                base=base,
                kept=kept,
                say=in_passing(console),
            )
            for name in names
        ]
        scorings = [Scoring(each, loaded, seed, limit, extent=WHOLE) for each in candidates]
        anchor, *others = [report.run for report in score_each(scorings, store, console)]
        policy, _ = calibrated(store, loaded.digest, loaded.policy)
        picked = choose(anchor, others, loaded, store, policy, limit=limit, seed=seed)
        _show(picked, dict(zip(names[1:], others, strict=True)), names[0], everything, console)
    raise typer.Exit(picked.decision.verdict.exit_code)


def _in_play(models: Sequence[str], against: str | None) -> list[str]:
    """The anchor, then the candidates. Raises UserError where there is none to choose."""
    from harness.core.errors import UserError

    found = named(models)
    anchor = found[0] if against is None else against
    others = [name for name in found if name != anchor]
    if not others:
        raise UserError(
            "there is nothing to pick from: only the anchor is named",
            hint="name several models, such as RUN/checkpoint-*, or the anchor with --against",
        )
    return [anchor, *others]


def _show(
    picked: Picked, runs: Mapping[str, Run], anchor: str, everything: bool, console: Console
) -> None:
    """The candidates by the half that chose, and the verdict by the other."""
    from rich.text import Text

    from harness.core.format import number
    from harness.report.console import verdict_view
    from harness.report.table import FittedTable

    short = short_names([anchor, *runs])
    console.print()
    console.print(Text(f"Chosen on {picked.choosing} samples, beside {short[anchor]}", "bold"))
    table = FittedTable(("candidate", "gain in margins", "least", ""), frozenset({""}))
    for name, run in runs.items():
        found = picked.estimates[run.id]
        least = min(found.gains.items(), key=lambda each: each[1], default=None)
        said = found.problem or ("" if found.harmless or least is None else f"worse: {least[0]}")
        is_chosen = run.id == picked.chosen.id
        table.add(
            short[name],
            "–" if found.problem else number(found.gain, signed=True),
            "–" if least is None else number(least[1], signed=True),
            Text("◀ chosen", "green") if is_chosen and not said else Text(said, "yellow"),
            style="bold" if is_chosen else "",
        )
    console.print(table)
    chosen = next(short[name] for name, run in runs.items() if run.id == picked.chosen.id)
    if not picked.ahead:
        console.print(Text(f"None is ahead on every count: {chosen} comes nearest.", "yellow"))
    console.print()
    console.print(Text(f"{chosen}, decided on the other {picked.deciding} samples", "bold"))
    view = verdict_view(picked.decision.verdict, everything=everything, more=ALL_SHOWS)
    console.print(view)
    if picked.decision.improvement:
        console.print(Text(picked.decision.improvement, "green"))
    console.print(Text(f"run:{picked.chosen.id}", "dim"))
