"""The trainers' verbs: `ratchet train RECIPE` and `ratchet recipes check RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.store import Store
    from harness.workspace import Workspace
    from trainers.console import ConsoleReporter
    from trainers.recipe import Recipe
    from trainers.reporter import TrainingResult

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]


def train(
    recipe: RecipePath,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew, even if it was finished or stopped.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and train nothing.")
    ] = False,
) -> None:
    """Train a recipe under its gate: score every checkpoint, roll back any that got worse."""
    from harness.workspace import Workspace
    from trainers.recipe import load_recipe

    loaded = load_recipe(recipe)
    workspace = Workspace.at()
    if dry_run:
        _show_plan(loaded)
        return
    _quiet()
    from harness.store import Store
    from trainers.console import ConsoleReporter
    from trainers.loop import GatedTraining

    with Store(workspace.ensure()) as store, ConsoleReporter() as reporter:
        training = GatedTraining(loaded, workspace, store, reporter)
        reporter.say(f"Training {loaded.model.name}: {training.training_id}")
        result = training.run(again=again)
        _show_result(result, loaded, workspace, store, reporter)
    if result.status == "stopped":
        raise typer.Exit(1)


recipes = typer.Typer(help="Look at recipes without training them.", no_args_is_help=True)


@recipes.callback()
def _recipes() -> None:
    """Look at recipes without training them."""


@recipes.command()
def check(recipe: RecipePath) -> None:
    """Validate a recipe, its data and its suite, and show what it would do."""
    from trainers.recipe import load_recipe

    _show_plan(load_recipe(recipe))


def _quiet() -> None:
    """The libraries' own warnings and bars would bury ours; errors still come through."""
    import logging
    import os
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("transformers", "accelerate", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _show_plan(recipe: Recipe) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trainers.plan import make_plan

    console = Console()
    gate = recipe.model.gate
    plan = make_plan(recipe, spare=gate.max_rollbacks)
    stage = recipe.stage
    console.print(Text(f"{recipe.model.name}: {recipe.path}", style="bold"))
    console.print(
        Text(
            f"  {stage.trainer} on {recipe.model.base}, {stage.steps} steps of "
            f"{stage.batch_size * stage.gradient_accumulation}, a checkpoint every "
            f"{stage.checkpoint_every}; data plan {plan.digest}"
        )
    )
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("segment", justify="right")
    for source in recipe.model.data.mix:
        table.add_column(Path(source.source).name, justify="right")
    for number, segment in enumerate(plan.segments, start=1):
        counts = [
            sum(recipe.examples[i].source == index for i in segment)
            for index in range(len(recipe.model.data.mix))
        ]
        name = str(number) if number <= plan.planned else f"{number} (spare)"
        table.add_row(name, *[str(count) if count else "–" for count in counts])
    console.print(table)
    for source in recipe.model.data.mix:
        if source.note:
            console.print(Text(f"  note on {Path(source.source).name}: {source.note}"))
    console.print(
        Text(
            f"  {recipe.segments + 1} checkpoints are scored on {recipe.suite.path} "
            f"({len(list(recipe.suite.metrics()))} metrics); at most {gate.max_rollbacks} "
            f"rollbacks: {', '.join(gate.on_fail)}"
        )
    )


def _show_result(
    result: TrainingResult,
    recipe: Recipe,
    workspace: Workspace,
    store: Store,
    reporter: ConsoleReporter,
) -> None:
    from rich.table import Table
    from rich.text import Text

    from harness.evidence import summarise

    console = reporter.console
    first = {line.metric: line for line in summarise(store, result.first)}
    best = {line.metric: line for line in summarise(store, result.best)}
    console.print()
    console.print(Text(_headline(result), style="bold green" if result.crest_step else "bold"))
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("metric")
    table.add_column("checkpoint-0", justify="right")
    table.add_column(f"crest (step {result.crest_step})", justify="right")
    table.add_column("scored", justify="right")
    for name, line in best.items():
        old = first[name].value
        table.add_row(
            name,
            "–" if old is None else f"{old:.4g}",
            "–" if line.value is None else f"{line.value:.4g}",
            f"{line.scored} of {line.total}",
        )
    console.print(table)
    home = _shortest(workspace.home)
    rows = [
        ("database", f"{home}/ratchet.duckdb"),
        ("training", f"{home}/trainings/{result.training_id}"),
    ]
    if result.promoted and result.digest:
        rows.append(("promoted", f"line {recipe.model.line} -> {result.digest[:16]}"))
        rows.append(("served from", f"{home}/lines/{recipe.model.line}/blessed"))
    reporter.lines("Where things are", rows)
    suite = _shortest(recipe.suite.path)
    next_steps = [
        ("ratchet runs", "every run with its scores"),
        (f"ratchet history {recipe.model.line}", "what was promoted, and why"),
        (f"ratchet gate MODEL --against line:{recipe.model.line} --suite {suite}", "gate your own"),
        (f"duckdb {home}/ratchet.duckdb 'FROM rollbacks'", "the rollback, from its table"),
    ]
    reporter.lines("What to type next", next_steps)


def _headline(result: TrainingResult) -> str:
    ending = "finished" if result.status == "finished" else "stopped"
    back = {0: "without a rollback", 1: "after one rollback"}.get(
        result.rollbacks, f"after {result.rollbacks} rollbacks"
    )
    if not result.crest_step:
        return f"The training {ending} {back}; no checkpoint was shown to be better than the base."
    kept = "is promoted" if result.promoted else "is the best state"
    return f"The training {ending} {back}; the crest, step {result.crest_step}, {kept}."


def _shortest(path: Path) -> str:
    """Relative to here where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
