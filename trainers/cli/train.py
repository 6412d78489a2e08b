"""The trainers' verbs: `ratchet train RECIPE` and `ratchet recipes check RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.core.parts import require_part
from harness.core.quiet import quiet

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]


def train(
    recipe: RecipePath,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew, even if it was finished or stopped.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, the time and the cost; train nothing.")
    ] = False,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Of an hour of this machine, for --dry-run."),
    ] = None,
    shard: Annotated[
        Literal["zero2", "zero3", "fsdp"] | None,
        typer.Option("--shard", help="Cut the training up over the processes of torchrun."),
    ] = None,
    score_on: Annotated[
        str | None,
        typer.Option("--score-on", help="A running vLLM, openai:…: it answers for checkpoints."),
    ] = None,
    aside: Annotated[
        str | None,
        typer.Option(
            "--aside",
            metavar="DEVICE",
            help="Train on while a second process judges checkpoints on this device: cuda:1, cpu.",
        ),
    ] = None,
) -> None:
    """Train a recipe under its gate: score every checkpoint, roll back any that got worse."""
    from harness.core.workspace import Workspace
    from trainers.config.load import load_recipe

    loaded = load_recipe(recipe)
    workspace = Workspace.at()
    if dry_run:
        from harness.models.resolve import resolve
        from trainers.cli.summary import show_estimate, show_plan
        from trainers.methods.preflight import require_trainable

        name = loaded.model.base
        fitted = show_plan(
            loaded, fitted=lambda: require_trainable(loaded, resolve(name, workspace))
        )
        show_estimate(fitted, workspace, price)
        return
    require_part("train", "torch", "trl")
    quiet()
    from trainers.config.run_options import RunOptions
    from trainers.distributed.ranks import Ranks
    from trainers.distributed.sharding import require_sharding
    from trainers.loop.background_judge import require_background_device

    require_sharding(loaded, shard)
    require_background_device(loaded, aside)
    options = RunOptions(shard, score_on, aside)
    ranks = Ranks.here(shard)
    if not ranks.first:
        from trainers.loop.stages import follow_stages

        with ranks.losing_none():
            follow_stages(loaded, workspace, ranks, options)
        return
    from harness.store.store import Store
    from trainers.cli.console import ConsoleReporter
    from trainers.cli.summary import show_end, show_result
    from trainers.loop.stages import run_stages

    status = "finished"
    with (
        ranks.losing_none(),
        Store(workspace.ensure()) as store,
        ConsoleReporter() as reporter,
    ):
        for result in run_stages(
            loaded, workspace, store, reporter, again=again, ranks=ranks, options=options
        ):
            show_result(result, store, reporter)
            status = result.status
        show_end(loaded, result, workspace, reporter)
    if status == "stopped":
        raise typer.Exit(1)


recipes = typer.Typer(help="Look at recipes without training them.", no_args_is_help=True)


@recipes.callback()
def _recipes() -> None:
    """Look at recipes without training them."""


@recipes.command()
def check(recipe: RecipePath) -> None:
    """Validate a recipe, its data and its suite, and show what it would do."""
    from trainers.cli.summary import show_plan
    from trainers.config.load import load_recipe

    loaded = load_recipe(recipe)
    # A base that has to be unpacked or fetched first is left to `train --dry-run`.
    base = loaded.model.base
    if not base.startswith((".", "/", "~")) and not Path(base).exists():
        show_plan(loaded)
        return
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve
    from trainers.methods.preflight import require_trainable

    show_plan(loaded, fitted=lambda: require_trainable(loaded, resolve(base, Workspace.at())))


@recipes.command("from")
def from_(
    file: Annotated[
        Path,
        typer.Argument(
            help="A LLaMA-Factory or axolotl YAML, an ms-swift YAML, or a file with its command.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        Path, typer.Option("--suite", help="What judges the checkpoints: a suite's YAML.")
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="Where the recipe is written; FILE.recipe.yaml.")
    ] = None,
    line: Annotated[
        str | None, typer.Option("--line", help="What its offered checkpoint is promoted to.")
    ] = None,
    dataset_info: Annotated[
        Path | None, typer.Option("--dataset-info", help="LLaMA-Factory's dataset_info.json.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe there.")] = False,
) -> None:
    """Make a recipe of another trainer's configuration, and list what has no equivalent."""
    from trainers.cli.convert import make_recipe

    make_recipe(file, suite=suite, to=to, line=line, info=dataset_info, force=force)
