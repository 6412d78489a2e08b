"""Runs the stages of a recipe one after the other, each from the best checkpoint of the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.architecture import whole_class
from harness.models.resolve import ModelFiles, resolve
from harness.store.store import Store
from trainers.config.contamination import check_recipe
from trainers.config.recipe import Recipe
from trainers.config.run_options import ALL_HERE, RunOptions
from trainers.distributed.ranks import ALONE, Ranks
from trainers.loop.follower import Follower
from trainers.loop.gated_training import GatedTraining
from trainers.loop.reporter import Reporter, TrainingResult
from trainers.loop.stage_run import StageRun
from trainers.methods.base import method_of
from trainers.methods.models import require_gpu_for, require_same_base
from trainers.methods.preflight import require_readable_rows, require_trainable


def run_stages(
    recipe: Recipe,
    workspace: Workspace,
    store: Store,
    reporter: Reporter,
    *,
    again: bool = False,
    ranks: Ranks = ALONE,
    options: RunOptions = ALL_HERE,
) -> Iterator[TrainingResult]:
    """Train stage after stage; yields each one's result, the last being `stopped` where its
    remedies were used up. Finished stages are not trained again, an interrupted one goes on.
    """
    # The first line, before what takes long: a base is unpacked or fetched at its first use.
    reporter.say(f"Preparing {recipe.model.base} and the rows of {recipe.path.name}")
    require_gpu_for(recipe)
    require_trackers(recipe)
    if options.scored_on is not None:
        require_servable(recipe)
    model = recipe.model.contamination
    report = check_recipe(recipe, model, workspace.cache)
    if model is not None:
        report.require(model, recipe.path)
    elif report.matches:
        reporter.say(
            f"{len(report.matches)} samples of the suites are in the training data, such as: "
            f"{report.matches[0]}. With `contamination:` a share too large is refused"
        )
    base = resolve(recipe.model.base, workspace)
    start = first_start(recipe, base, workspace)
    recipe = require_trainable(recipe, base)
    for note in (note for stage in recipe.stages for note in stage.notes):
        reporter.say(note)
    if recipe.model.adapter_kind == "none" and whole_class(base.folder) is not None:
        reporter.say(
            f"Of {recipe.model.base} the language model alone is trained and kept: its class in "
            "transformers has no place for what reads images"
        )
    for stage in recipe.stages:
        training = GatedTraining(recipe, workspace, store, reporter, stage, start, ranks, options)
        name = f"stage {stage.number} of {len(recipe.stages)}, {stage.name}: " if stage.name else ""
        reporter.say(f"Training {recipe.model.name}: {name}{training.training_id}")
        result = training.run(again=again)
        if method_of(stage.model.trainer).continues and result.status == "finished":
            start = training.folder.require(result.best_step)
        ranks.share((result.status, start))
        yield result
        if result.status != "finished":
            return


def follow_stages(
    recipe: Recipe, workspace: Workspace, ranks: Ranks, options: RunOptions = ALL_HERE
) -> None:
    """The part of every process but rank 0."""
    base = resolve(recipe.model.base, workspace)
    start = first_start(recipe, base, workspace)
    if any(stage.data.too_long != "refuse" for stage in recipe.stages):
        recipe = require_readable_rows(recipe, base)
    for stage in recipe.stages:
        run = StageRun.of(recipe, stage, workspace, start=start, options=options)
        Follower(run, ranks).run()
        status, start = ranks.share()
        if status != "finished":
            return


def first_start(recipe: Recipe, base: ModelFiles, workspace: Workspace) -> Path | None:
    """The checkpoint that the recipe's `start` names. Raises UserError for another base's."""
    if recipe.model.start is None:
        return None
    folder = recipe.path.parent / recipe.model.start
    require_same_base(recipe, base, folder, workspace)
    return folder


def require_servable(recipe: Recipe) -> None:
    """Raises UserError for adapters that a server of a base model can't put on."""
    adapter = recipe.model.adapter
    plain = adapter is not None and adapter.kind in ("lora", "rslora")
    if adapter is not None and (
        adapter.moves_base or adapter.rank_pattern or adapter.alpha_pattern
    ):
        plain = False
    whole = [] if adapter is None else [*adapter.modules_to_save]
    for stage in recipe.stages:
        whole.extend(method_of(stage.model.trainer).trained_whole)
    if not plain or whole or (adapter is not None and adapter.bias != "none"):
        what = f"trains {whole[0]} whole" if whole else "is not a plain LoRA"
        raise UserError(
            f"a server puts plain LoRA adapters on its base, and the recipe's {what}",
            file=recipe.path,
            field="adapter",
            hint="leave out --score-on: the live model answers by itself",
        )


def require_trackers(recipe: Recipe) -> None:
    """Raises UserError for a tracker whose package is not installed."""
    import importlib.util

    for name in recipe.model.tracking:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the recipe tracks with {name}, which is not installed",
                file=recipe.path,
                field="tracking",
                hint=f"pip install {name}",
            )
