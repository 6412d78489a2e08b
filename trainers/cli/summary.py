"""What a recipe would do, and what it did, as tables and sentences on the console."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from harness.comparison.evidence import summarize
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from harness.report.table import FittedTable
from harness.store.store import Store
from trainers.cli.console import ConsoleReporter
from trainers.config.contamination import Report, check_recipe
from trainers.config.data_plan import make_plan, shares_of
from trainers.config.estimate import estimate
from trainers.config.recipe import Recipe, Stage
from trainers.loop.reporter import TrainingResult


def show_plan(
    recipe: Recipe,
    console: Console | None = None,
    *,
    fitted: Callable[[], Recipe] | None = None,
) -> Recipe:
    """The stages of a recipe: what each learns from in which segment, what judges it, and what of
    that is in the data; returns the recipe with the rows that it learns from.

    `fitted` looks at the rows with the base's tokenizer: before the plan is shown where rows may be
    left out, else behind it. Raises UserError where rows don't fit, or more of a suite is in the
    data than the recipe allows.
    """
    console = console or Console()
    leaves_out = any(stage.data.too_long != "refuse" for stage in recipe.stages)
    if fitted is not None and leaves_out:
        recipe, fitted = fitted(), None
    elif leaves_out:
        say(console, "`ratchet train --dry-run` fetches the base, and counts rows too long for it")
    console.print(Text(f"{recipe.model.name}: {recipe.path}", style="bold"))
    for stage in recipe.stages:
        _show_stage(recipe, stage, console)
    workspace = Workspace.at()
    known = workspace.cache if workspace.home.is_dir() else None
    report = check_recipe(recipe, recipe.model.contamination, known)
    _show_contamination(report, console)
    if recipe.model.contamination is not None:
        report.require(recipe.model.contamination, recipe.path)
    return recipe if fitted is None else fitted()


def _show_contamination(report: Report, console: Console) -> None:
    for task in report.samples:
        shared = ", ".join(
            f"{share:.0%} of {Path(source).name}"
            for (source, other), share in report.overlap.items()
            if other == task
        )
        say(
            console,
            f"{report.share(task):.1%} of the samples of {task} are in the data; words that it "
            f"uses too: {shared}",
        )
    for match in report.matches[:5]:
        say(console, str(match), style="yellow")


def _show_stage(recipe: Recipe, stage: Stage, console: Console) -> None:
    gate, model = stage.gate, stage.model
    plan = make_plan(stage, spare=gate.max_rollbacks)
    name = f"stage {stage.number}, {stage.name}: " if stage.name else ""
    say(
        console,
        f"{name}{model.trainer} on {recipe.model.base}, {model.steps} steps of "
        f"{model.rows_per_step}, a checkpoint every {model.checkpoint_every}; data plan "
        f"{plan.digest}",
    )
    if model.epochs is not None:
        rows = len(stage.examples)
        say(console, f"{model.epochs:g} epochs of {_number(rows, 'row')}, in whole segments")
    if chosen := _chosen(recipe, stage):
        say(console, chosen)
    table = FittedTable(["segment", *(Path(source.source).stem for source in stage.data.mix)])
    for number, segment in enumerate(plan.segments, start=1):
        counts = [
            sum(stage.examples[i].source == index for i in segment)
            for index in range(len(stage.data.mix))
        ]
        numbered = str(number) if number <= plan.planned else f"{number} (spare)"
        table.add(numbered, *[str(count) if count else "–" for count in counts])
    shares = shares_of(stage, plan)
    table.add("asked", *[f"{asked:.2%}" for asked, _ in shares])
    table.add("got", *[f"{got:.2%}" for _, got in shares])
    console.print(Padding(table, (0, 0, 0, 2)))
    for source, (asked, got) in zip(stage.data.mix, shares, strict=True):
        if asked and not got:
            say(
                console,
                f"no row of {Path(source.source).name} is learned from: the training has too few "
                "rows for its sources",
                style="yellow",
            )
    for source in stage.data.mix:
        if source.note:
            say(console, f"note on {Path(source.source).name}: {source.note}")
    for number in range(len(stage.data.mix)):
        _show_conversations(stage, number, console)
    for note in stage.notes:
        say(console, note, style="yellow")
    if stage.validation:
        say(console, f"{len(stage.validation)} rows are held out to validate")
    say(
        console,
        f"{stage.segments + 1} checkpoints are scored on {_shortest(stage.suite.path)} "
        f"({_number(len(list(stage.suite.metrics())), 'metric')})",
    )
    rollbacks = _number(gate.max_rollbacks, "rollback")
    say(console, f"at most {rollbacks}: {', '.join(gate.on_fail)}")


def _chosen(recipe: Recipe, stage: Stage) -> str:
    """The settings of the Trainer that the recipe names."""
    found = stage.model.trainer_options.model_dump(mode="json", exclude_defaults=True)
    if recipe.model.dtype != "auto":
        found = {"dtype": recipe.model.dtype, **found}
    if stage.model.generate_on != "transformers":
        found["generate_on"] = stage.model.generate_on
    return ", ".join(name if value is True else f"{name} {value}" for name, value in found.items())


def _show_conversations(stage: Stage, number: int, console: Console) -> None:
    source = stage.data.mix[number]
    rows = [e for e in stage.examples if e.source == number and e.learned]
    if source.shape == "conversation" and rows:
        learned = sum(len(example.learned) for example in rows)
        said = sum(turn["role"] == "assistant" for e in rows for turn in e.turns)
        say(
            console,
            f"{Path(source.source).name}: learned from {learned} of the {said} assistant turns "
            f"that are read (learn: {source.learn})",
        )


def say(console: Console, text: str, style: str = "") -> None:
    """One statement of a plan: where it needs a second line, that one is indented."""
    lines = textwrap.wrap(
        text,
        console.width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(Text(line, style), soft_wrap=True)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def show_estimate(recipe: Recipe, workspace: Workspace, price: float | None) -> None:
    """The time of each stage on this machine and, with a price of an hour, what it costs."""
    console = Console()
    base = resolve(recipe.model.base, workspace, say=lambda text: console.print(Text(text)))
    store = Store(workspace) if workspace.database.exists() else None
    try:
        found = [estimate(recipe, stage, base, store) for stage in recipe.stages]
    finally:
        if store is not None:
            store.close()
    titles = ("stage", "training", "scoring", "known from")
    table = FittedTable(titles, left=frozenset(titles))
    for stage, each in zip(recipe.stages, found, strict=True):
        how = "trainings of this base here" if each.measured else "arithmetic: a lower bound"
        name = stage.name or stage.model.trainer
        table.add(name, _duration(each.training_s), _duration(each.scoring_s), how)
    console.print(table)
    total = sum(each.seconds for each in found)
    cost = (
        "give --price, what an hour of this machine costs, for the cost"
        if price is None
        else f"{sum(each.cost(price) for each in found):.2f} at {price:g} an hour"
    )
    console.print(Text(f"  about {_duration(total)} without rollbacks; {cost}"))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def show_result(result: TrainingResult, store: Store, reporter: ConsoleReporter) -> None:
    """How a stage ended: the scores of the checkpoint that it offers, else of its best one, beside
    those that it began with.
    """
    console = reporter.console
    other = result.offered_step not in (0, result.best_step)
    shown = result.offered if other else result.best
    first = {line.metric: line for line in summarize(store, result.first)}
    last = {line.metric: line for line in summarize(store, shown)}
    console.print()
    console.print(Text(_headline(result), style="bold green" if result.best_step else "bold"))
    name = f"step {result.offered_step}" if other else f"best (step {result.best_step})"
    table = FittedTable(["metric", "checkpoint-0", name, "scored"])
    for name, line in last.items():
        old = first[name].estimate.value
        table.add(
            name,
            "–" if old is None else f"{old:.4g}",
            "–" if line.estimate.value is None else f"{line.estimate.value:.4g}",
            f"{line.counts.scored} of {line.counts.total}",
        )
    console.print(table)


def show_end(
    recipe: Recipe, result: TrainingResult, workspace: Workspace, reporter: ConsoleReporter
) -> None:
    """Where everything is, and what to type next."""
    home = _shortest(workspace.home)
    line = result.line or recipe.model.line
    rows = [
        ("database", f"{home}/ratchet.duckdb"),
        ("training", f"{home}/trainings/{result.training_id}"),
    ]
    if result.promoted and result.digest:
        rows.append(("promoted", f"line {line} -> {result.digest[:16]}"))
        rows.append(("served from", f"{home}/lines/{line}/blessed"))
    reporter.lines("Where things are", rows)
    suite = _shortest(recipe.stages[-1].suite.path)
    next_steps = [
        ("ratchet runs", "every run with its scores"),
        (f"ratchet history {line}", "what was promoted, and why"),
        (f"ratchet gate MODEL --against line:{line} --suite {suite}", "gate your own"),
        (f"duckdb {home}/ratchet.duckdb 'FROM rollbacks'", "the rollback, from its table"),
    ]
    reporter.lines("What to type next", next_steps)


def _headline(result: TrainingResult) -> str:
    ending = "finished" if result.status == "finished" else "stopped"
    back = {0: "without a rollback", 1: "after one rollback"}.get(
        result.rollbacks, f"after {result.rollbacks} rollbacks"
    )
    found = f"the best checkpoint, step {result.best_step}, is the best state"
    if not result.best_step:
        found = "no checkpoint was shown to be better than the base"
    if result.promoted and result.offered_step == result.best_step:
        found = f"the best checkpoint, step {result.best_step}, is promoted"
    elif result.promoted:
        found += f"; step {result.offered_step}, estimated to be ahead of it, is promoted"
    return f"The training {ending} {back}; {found}."


def _shortest(path: Path) -> str:
    """Relative to here where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
