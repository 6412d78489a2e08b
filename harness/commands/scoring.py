"""`ratchet score`, `rescore` and `runs`: one model on one suite, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.records import Run
    from harness.runner import RunReport
    from harness.store import Store

SuiteOption = Annotated[
    Path, typer.Option("--suite", "-s", help="The suite, a YAML file.", show_default=False)
]
ModelName = Annotated[
    str,
    typer.Argument(help="A folder (model or adapter), a hub id, an embedded name, or line:NAME."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 … or auto.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 … or auto.")]


def score(
    model: ModelName,
    suite: SuiteOption,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most N samples a task, by seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    draw: Annotated[
        int, typer.Option("--draw", min=0, help="A fresh draw of sampled answers.")
    ] = 0,
    reserve: Annotated[
        bool, typer.Option("--reserve", help="Score the reserve samples as well.")
    ] = False,
    responses: Annotated[
        int, typer.Option("--responses", min=1, help="N times the suite's K sampled answers.")
    ] = 1,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model under an adapter.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be generated, and generate nothing.")
    ] = False,
) -> None:
    """Score a model on a suite: generate what is missing, score it, and keep every score."""
    from rich.console import Console

    from harness.runner import Extent
    from harness.runner import score as score_model
    from harness.store import Store
    from harness.suite import load_suite
    from harness.workspace import Workspace

    loaded = load_suite(suite)
    workspace = Workspace.at().ensure()
    console = Console()
    from harness.naming import Hardware, open_model

    with Store(workspace, on_wait=lambda text: console.print(text, style="dim")) as store:
        candidate = open_model(
            model,
            workspace,
            store,
            hardware=Hardware.choose(device, dtype),
            base=base,
            say=lambda text: console.print(text, style="dim", markup=False),
        )
        extent = Extent(responses, 1.0 if reserve else 0.0)
        if dry_run:
            _show_missing(candidate, loaded, store, seed, limit, draw, extent, console)
            return
        with bars(console) as progress:
            report = score_model(
                candidate,
                loaded,
                store,
                seed=seed,
                limit=limit,
                draw=draw,
                extent=extent,
                progress=progress,
            )
        show_report(report, store, console)


def rescore(
    run: Annotated[str, typer.Argument(help="The run's id, or run:ID.")],
    suite: Annotated[
        Path | None, typer.Option("--suite", "-s", help="Another suite than the run's own.")
    ] = None,
) -> None:
    """Score a run's stored answers again with today's metrics; no model is loaded."""
    from rich.console import Console

    from harness import runner
    from harness.naming import suite_of
    from harness.runs import require_run
    from harness.store import Store
    from harness.suite import load_suite
    from harness.workspace import Workspace

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
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Only this suite's, by name.")
    ] = None,
    training: Annotated[
        str | None, typer.Option("--training", help="Only this training's.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the runs, newest first, with their main scores."""
    from rich.console import Console

    from harness.store import Store
    from harness.workspace import Workspace

    workspace = Workspace.at()
    if not workspace.home.exists():
        from harness.errors import UserError

        raise UserError(
            "there is no workspace here",
            file=workspace.home,
            cure="`ratchet score` makes one; or name another with --home",
        )
    conditions = [("model", model), ("suite", suite), ("training_id", training)]
    given = [(column, value) for column, value in conditions if value is not None]
    where = " AND ".join(f"{column} = ?" for column, _ in given) or "true"
    with Store(workspace) as store:
        rows = store.query(
            f"""
            SELECT r.run_id, r.model, r.suite, r.sample_limit, r.training_id, r.step, r.started_at,
                   (SELECT arg_max(event, at) FROM run_events e WHERE e.run_id = r.run_id) AS state
            FROM runs r WHERE {where} ORDER BY started_at DESC LIMIT ?
            """,
            [*(value for _, value in given), last],
        )
        values = _main_scores(store, [row["run_id"] for row in rows])
    console = Console()
    if as_json:
        import json

        for row in rows:
            line = {**row, "scores": values.get(row["run_id"], {})}
            console.out(json.dumps(line, ensure_ascii=False, default=str), highlight=False)
        return
    _show_runs(rows, values, console)


def _main_scores(store: Store, run_ids: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in store.query(
        "SELECT * FROM run_summary WHERE run_id IN (SELECT unnest(?::VARCHAR[])) "
        "ORDER BY task, metric",
        [run_ids],
    ):
        found.setdefault(row["run_id"], {})[f"{row['task']}/{row['metric']}"] = row["mean"]
    return found


def _show_runs(
    rows: list[dict[str, Any]], values: dict[str, dict[str, Any]], console: Console
) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        console.print("No runs yet. `ratchet score MODEL --suite FILE` makes one.")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("run", "model", "suite", "when", "state"):
        table.add_column(name, no_wrap=name in ("run", "when"))
    table.add_column("scores (mean)", overflow="fold")
    for row in rows:
        scores = values.get(row["run_id"], {})
        listed = ", ".join(
            f"{name} {value:.3g}" for name, value in scores.items() if value is not None
        )
        limit = f" ({row['sample_limit']} a task)" if row["sample_limit"] else ""
        table.add_row(
            row["run_id"],
            Text(row["model"]),
            row["suite"] + limit,
            f"{row['started_at']:%m-%d %H:%M}",
            row["state"] or "begun",
            Text(listed),
        )
    console.print(table)


def show_report(report: RunReport, store: Store, console: Console) -> None:
    """What a scoring did, and the run's table."""
    from rich.text import Text

    if report.generated == 0:
        done = f"Nothing was generated: all {report.reused} answers were known already"
    else:
        done = f"{report.generated} answers generated, {report.reused} reused"
    scored = f"{report.scored} scores added" if report.scored else "every score was known too"
    console.print(Text(f"{done}; {scored} ({report.seconds:.1f} s)."))
    if report.failed:
        console.print(Text(f"{report.failed} answers are errors; they are kept as such.", "yellow"))
    show_run(report.run, store, console)


def show_run(run: Run, store: Store, console: Console) -> None:
    """One run's table: each metric with its interval, and n scored of n in total."""
    from rich.table import Table
    from rich.text import Text

    from harness.evidence import summarise

    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("unit", style="dim")
    table.add_column("scored", justify="right")
    table.add_column("not scored")
    for line in summarise(store, run):
        missing = [
            f"{count} {word}"
            for count, word in ((line.errors, "errors"), (line.unscored, "unscored"))
            if count
        ]
        why = f"{', '.join(missing)}: {line.reason}" if missing else ""
        table.add_row(
            ("↑ " if line.direction == "higher" else "↓ ") + line.metric,
            "–" if line.value is None else f"{line.value:.4g}",
            "–" if line.low is None else f"{line.low:.4g} to {line.high:.4g}",
            line.unit,
            f"{line.scored} of {line.total}",
            Text(why, style="yellow"),
        )
    console.print(table)
    console.print(
        Text(f"run:{run.id}  {run.model}  {run.suite}  model {run.model_digest[:12]}", "dim")
    )


def _show_missing(
    candidate: Any,
    suite: Any,
    store: Store,
    seed: int,
    limit: int | None,
    draw: int,
    extent: Any,
    console: Console,
) -> None:
    from harness.runner import missing_answers

    counts = missing_answers(
        candidate, suite, store, seed=seed, limit=limit, draw=draw, extent=extent
    )
    for (task, kind), (missing, total, tokens) in counts.items():
        what = f"at most {tokens} new tokens" if kind == "generation" else "log-probabilities only"
        console.print(f"  {task}: {missing} of {total} answers ({kind}) to make; {what}")


class bars:  # noqa: N801 -- reads as a context manager: `with bars(console) as progress`
    """A progress bar for the runner's stages; gone when it is done."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            Elapsed(),
            console=console,
            transient=True,
        )
        self._task = self._bars.add_task("", total=None, visible=False)
        self._stage = ""

    def __enter__(self) -> Any:
        self._bars.start()
        return self._on_progress

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._bars.reset(self._task, description=stage, total=total, visible=True)
        self._bars.update(self._task, completed=done, total=total)
