"""`ratchet score`, `rescore` and `runs`: score a model on a suite, and list what was scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import (
    DeviceOption,
    DtypeOption,
    InspectArgsOption,
    InspectPythonOption,
    LimitOption,
    ModelNames,
    SeedOption,
)
from harness.cli.progress import bars
from harness.cli.run_table import show_report
from harness.cli.session import in_passing

__all__ = ["rescore", "runs", "score"]

if TYPE_CHECKING:
    from rich.console import Console

    from harness.evaluation.plan import Scoring
    from harness.store.store import Store


def score(
    models: ModelNames,
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            "-s",
            help="The suite, a YAML file; or a task of Inspect, inspect:FILE.py@TASK.",
            show_default=False,
        ),
    ],
    limit: LimitOption = None,
    seed: SeedOption = 0,
    draw: Annotated[
        int,
        typer.Option(
            "--draw", min=0, help="Which draw of sampled answers; another number: new ones."
        ),
    ] = 0,
    reserve: Annotated[
        bool, typer.Option("--reserve", help="Score the reserve samples as well.")
    ] = False,
    responses: Annotated[
        int,
        typer.Option(
            "--responses", min=1, help="Sample N times as many answers as the suite says."
        ),
    ] = 1,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model under an adapter.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(
            "--executor", help="Run in this process, or on a Ray cluster (docs/scaling.md)."
        ),
    ] = "local",
    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas", min=1, help="Copies of the model on Ray. Default: one a GPU, or a node."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be generated, and its cost.")
    ] = False,
    inspect_python: InspectPythonOption = None,
    inspect_args: InspectArgsOption = "",
) -> None:
    """Score a model on a suite: generate missing answers, score them, store every score.

    Of several models, such as RUN/checkpoint-*, adapters share one base in memory; at the end
    stands a table of all, with each metric over the steps.
    """
    from rich.console import Console

    from harness.cli.several import named, score_each, show_over_steps
    from harness.core.workspace import Workspace
    from harness.evaluation.plan import Extent, Scoring
    from harness.store.store import Store
    from harness.suite.load import load_suite

    names = named(models)
    if suite.startswith("inspect:"):
        _score_inspect(
            suite,
            names,
            base=base,
            hardware=(device, dtype),
            limit=limit,
            seed=seed,
            python=inspect_python,
            arguments=inspect_args,
            unused={
                "--draw": draw,
                "--reserve": reserve,
                "--responses": responses > 1,
                "--executor": executor == "ray",
                "--dry-run": dry_run,
            },
        )
        return
    loaded = load_suite(suite)
    workspace = Workspace.at().ensure()
    console = Console()
    from harness.backends.openers import Hardware
    from harness.backends.ray.cluster import connect
    from harness.evaluation.open_model import open_model
    from harness.models.kept_base import KeptBase

    cluster = connect(replicas) if executor == "ray" else None
    if cluster is not None and device == "auto":
        device = cluster.device

    with Store(workspace, on_wait=in_passing(console)) as store:
        hardware, kept = Hardware.choose(device, dtype), KeptBase()
        candidates = [
            open_model(
                name,
                workspace,
                store,
                hardware=hardware,
                base=base,
                cluster=cluster,
                kept=kept,
                say=in_passing(console),
            )
            for name in names
        ]
        extent = Extent(responses, 1.0 if reserve else 0.0)
        scorings = [Scoring(each, loaded, seed, limit, draw, extent) for each in candidates]
        if dry_run:
            for scoring in scorings:
                if len(scorings) > 1:
                    console.print(scoring.candidate.name, markup=False, highlight=False)
                _show_missing(scoring, store, console)
            return
        reports = score_each(scorings, store, console)
        if len(reports) == 1:
            show_report(reports[0], store, console)
        else:
            show_over_steps(names, [report.run for report in reports], store, console)


def _score_inspect(
    suite: str,
    names: list[str],
    *,
    base: str | None,
    hardware: tuple[str, str],
    **choices: Any,
) -> None:
    from harness.backends.base import Candidate
    from harness.backends.openers import Hardware
    from harness.cli.inspect_task import score_inspect
    from harness.core.workspace import Workspace
    from harness.evaluation.open_model import open_model

    def opened(name: str, workspace: Workspace, store: Store) -> Candidate:
        return open_model(name, workspace, store, hardware=Hardware.choose(*hardware), base=base)

    score_inspect(suite, names, opened, **choices)


def rescore(
    run: Annotated[str, typer.Argument(help="The run's id, or run:ID.")],
    suite: Annotated[
        Path | None, typer.Option("--suite", "-s", help="The suite. Default: the run's own.")
    ] = None,
) -> None:
    """Score a run's stored answers again with today's metrics; no model is loaded."""
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.evaluation import runner
    from harness.evaluation.references import suite_of
    from harness.store.runs import require_run
    from harness.store.store import Store
    from harness.suite.load import load_suite

    console = Console()
    with Store(Workspace.at().ensure()) as store:
        old = require_run(store, run.removeprefix("run:"))
        loaded = load_suite(suite or suite_of(old, store))
        draw = store.query("SELECT draw FROM runs WHERE run_id = ?", [old.id])[0]["draw"]
        with bars(console) as progress:
            report = runner.rescore(old, loaded, store, draw=draw or 0, progress=progress)
        if report.run.id != old.id:
            console.print(
                f"The metrics are of another version than run {old.id}'s: this is a new run.",
                style="dim",
            )
        show_report(report, store, console)


def runs(
    model: Annotated[str | None, typer.Option("--model", help="Only runs of this model.")] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Only runs on this suite, by its name.")
    ] = None,
    training: Annotated[
        str | None, typer.Option("--training", help="Only runs of this training, by its id.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the runs, newest first, with their main scores."""
    from rich.console import Console

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    workspace = Workspace.at()
    if not workspace.home.exists():
        from harness.core.errors import UserError

        raise UserError(
            "there is no workspace here",
            file=workspace.home,
            hint="`ratchet score` makes one; or name another with --home",
        )
    conditions = [("model", model), ("suite", suite), ("training_id", training)]
    given = [(column, value) for column, value in conditions if value is not None]
    where = " AND ".join(f"{column} = ?" for column, _ in given) or "true"
    with Store(workspace) as store:
        rows = store.query(
            f"""
            SELECT run_id, model, suite, sample_limit, training_id, step, started_at,
                   (SELECT arg_max(event, e.happened_at) FROM run_events e
                    WHERE e.run_id = r.run_id) AS state
            FROM runs r WHERE {where} ORDER BY started_at DESC LIMIT ?
            """,
            [*(value for _, value in given), last],
        )
        values = {row["run_id"]: _values(store, row["run_id"]) for row in rows}
    console = Console()
    if as_json:
        import json

        for row in rows:
            line = {**row, "scores": values[row["run_id"]]}
            console.out(json.dumps(line, ensure_ascii=False, default=str), highlight=False)
        return
    _show_runs(rows, values, console)


def _values(store: Store, run_id: str) -> dict[str, float | None]:
    from harness.comparison.evidence import summarize
    from harness.store.runs import require_run

    return {
        line.metric: line.estimate.value for line in summarize(store, require_run(store, run_id))
    }


def _show_runs(
    rows: list[dict[str, Any]], values: dict[str, dict[str, float | None]], console: Console
) -> None:
    from rich.text import Text

    from harness.report.table import Flowed

    if not rows:
        console.print("No runs yet. `ratchet score MODEL --suite FILE` makes one.")
        return
    for row in rows:
        limit = f", {row['sample_limit']} samples a task" if row["sample_limit"] else ""
        when = f"{row['started_at']:%Y-%m-%d %H:%M}"
        console.print(
            Text.assemble(
                (f"run:{row['run_id']}", "bold"),
                f"  {row['model']}  on {row['suite']}{limit}  {when}  {row['state'] or 'begun'}",
            )
        )
        listed = [
            f"{name} {value:.4g}"
            for name, value in values[row["run_id"]].items()
            if value is not None
        ]
        console.print(Flowed(listed, indent=4, style="dim"))


def _show_missing(scoring: Scoring, store: Store, console: Console) -> None:
    from harness.evaluation.cost import cost_of
    from harness.evaluation.runner import missing_answers

    for (task, kind), (missing, total, tokens) in missing_answers(scoring, store).items():
        what = f"at most {tokens} new tokens" if kind == "generation" else "log-probabilities only"
        console.print(f"  {task}: {missing} of {total} answers ({kind}) to make; {what}")
    cost = cost_of(scoring, store)
    for sentence in cost.sentences if cost is not None else ():
        console.print(f"  {sentence}", highlight=False)
