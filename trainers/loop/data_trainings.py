"""Trains a recipe on two versions of its data: with equal seeds, for equally many steps."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.core.yaml_file import Place
from harness.models.resolve import resolve
from harness.store.store import Store
from trainers.config.contamination import check_recipe
from trainers.config.data_schema import SEEDS_END
from trainers.config.load import load_recipe
from trainers.config.recipe import Recipe
from trainers.config.schema import LONGEST_NAME
from trainers.loop.plain_training import PlainTraining
from trainers.loop.reporter import Reporter
from trainers.loop.stages import first_start, require_trackers
from trainers.methods.models import require_gpu_for
from trainers.methods.preflight import require_trainable

_NAMED = ("dataset:", "hub:")


@dataclass(frozen=True, slots=True)
class Versions:
    """A recipe and the two versions of its data, each as a recipe names a source; `replaced` are
    the sources of the mix that are the versions' place.
    """

    path: Path
    recipe: Recipe
    anchor: str
    candidate: str
    replaced: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, anchor: str, candidate: str) -> Versions:
        """Raises UserError where the recipe has several stages, or doesn't say which of its sources
        the versions are of.
        """
        recipe = load_recipe(path)
        if len(recipe.stages) > 1:
            raise UserError(
                f"the recipe has {len(recipe.stages)} stages, and data is gated by one",
                file=path,
                field="stages",
                hint="write a recipe of the stage that learns from this data",
            )
        theirs, ours = source_of(anchor), source_of(candidate)
        if theirs == ours:
            raise UserError(
                "both versions are the same data",
                field="--against",
                hint="name the version that the new one is compared with",
            )
        mix = [source.source for source in recipe.stages[0].data.mix]
        same = [n for n, name in enumerate(mix) if _placed(name, path.parent) == theirs]
        if not same and len(mix) > 1:
            raise UserError(
                f"the recipe learns from {len(mix)} sources, and none of them is {anchor}",
                file=path,
                field="data.mix",
                hint=f"name one of them as the anchor: {', '.join(mix)}",
            )
        return cls(path, recipe, theirs, ours, tuple(same or [0]))

    def seeds(self, count: int) -> list[int]:
        """The recipe's own seed and those behind it."""
        return [(self.recipe.model.seed + n) % SEEDS_END for n in range(count)]

    def recipe_on(self, source: str, seed: int) -> Recipe:
        """The recipe as it is trained: on that version, with that seed, as long as on the anchor,
        and without the rules and the remedies that would make one training another than its pair.
        """
        model, stage = self.recipe.model, self.recipe.stages[0]
        at: Place = ("stages", 0, "data") if model.stages[0].data else ("data",)
        gate: Place = ("stages", 0, "gate") if model.stages[0].gate else ("gate",)
        steps = self._steps()
        parted = any(source.segments is not None for source in stage.data.mix)
        changed: dict[Place, Any] = {
            ("name",): f"{model.name[: LONGEST_NAME - 5]}-data",
            ("seed",): seed,
            (*at, "seed"): (stage.data.seed + seed - model.seed) % SEEDS_END,
            ("stages", 0, "epochs"): None,
            ("stages", 0, "steps"): steps,
            ("stages", 0, "checkpoint_every"): stage.model.checkpoint_every if parted else steps,
            ("stages", 0, "health"): {},
            (*gate, "promote"): False,
            (*gate, "max_rollbacks"): 0,
            ("webhook",): None,
            **{(*at, "mix", number, "source"): source for number in self.replaced},
        }
        return load_recipe(self.path, changed)

    def _steps(self) -> int:
        """As many as the anchor has, also where the recipe counts epochs."""
        if self.recipe.stages[0].model.epochs is None:
            return self.recipe.stages[0].model.steps
        model = self.recipe.model
        at: Place = ("stages", 0, "data") if model.stages[0].data else ("data",)
        changed = {(*at, "mix", number, "source"): self.anchor for number in self.replaced}
        return load_recipe(self.path, changed).stages[0].model.steps


def source_of(version: str) -> str:
    """A version as a recipe names a source: a name, or the path of a file or a folder. Raises
    UserError where there is no such file.
    """
    if version.startswith(_NAMED):
        return version
    path = Path(version).absolute()
    if not path.exists():
        raise UserError(
            f"there is no data {version}",
            file=path,
            hint="name a file or a folder of rows, or dataset:NAME@v1",
        )
    built = path / "train.jsonl"
    return str(built if built.is_file() and (path / "meta.json").is_file() else path)


def _placed(name: str, folder: Path) -> str:
    if name.startswith(_NAMED):
        return name
    path = (folder / name).absolute()
    return source_of(str(path)) if path.exists() else name


def require_clean(versions: Versions, workspace: Workspace, reporter: Reporter) -> None:
    """Looks both versions through for the suite: what has learned it would win by that alone.
    Raises UserError where the recipe refuses so much.
    """
    for source in (versions.anchor, versions.candidate):
        recipe = versions.recipe_on(source, versions.recipe.model.seed)
        model = recipe.model.contamination
        report = check_recipe(recipe, model, workspace.cache)
        if model is not None:
            report.require(model, versions.path)
        elif report.matches:
            reporter.say(
                f"{len(report.matches)} samples of the suite are in {source}, such as: "
                f"{report.matches[0]}. What is learned by heart counts as better"
            )


def train_both(
    versions: Versions, seeds: list[int], workspace: Workspace, store: Store, reporter: Reporter
) -> Iterator[tuple[int, Run, Run]]:
    """For each seed, the runs of the last checkpoints on the anchor and on the candidate. A
    training that is there is not trained again, and one that was stopped goes on.
    """
    first: str | None = None
    done, total = 0, 2 * len(seeds)
    for seed in seeds:
        runs: list[Run] = []
        for side, source in (("anchor", versions.anchor), ("candidate", versions.candidate)):
            done += 1
            reporter.say(f"Training {done} of {total}: seed {seed} on the {side}")
            training = _training(versions, source, seed, workspace, store, reporter, first)
            runs.append(training.last_run())
            first = first or training.first
            # One model at a time: the next one needs the room.
            del training
            gc.collect()
        yield seed, runs[0], runs[1]


def _training(
    versions: Versions,
    source: str,
    seed: int,
    workspace: Workspace,
    store: Store,
    reporter: Reporter,
    first: str | None,
) -> PlainTraining:
    recipe = versions.recipe_on(source, seed)
    require_gpu_for(recipe)
    require_trackers(recipe)
    base = resolve(recipe.model.base, workspace)
    start = first_start(recipe, base, workspace)
    recipe = require_trainable(recipe, base)
    return PlainTraining(recipe, workspace, store, reporter, start=start, first=first)
