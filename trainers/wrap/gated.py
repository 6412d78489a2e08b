"""The gate around a Trainer that somebody else has made: `trainers.gated`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import replace_symlink
from harness.core.workspace import Workspace
from harness.store.store import Store
from harness.suite.suite import Suite
from trainers.checkpoints.folder import CheckpointFolder
from trainers.cli.console import ConsoleReporter
from trainers.cli.summary import show_result
from trainers.config.data_plan import DataPlan
from trainers.config.schema import Remedy
from trainers.distributed.ranks import Ranks
from trainers.loop.engine import Watcher
from trainers.loop.follower import Follower
from trainers.loop.gated_training import GatedLoop
from trainers.loop.remedies import target_of
from trainers.loop.reporter import Reporter
from trainers.loop.stage_run import StageRun
from trainers.wrap.batches import Batches, Schedule, draw, plan_of
from trainers.wrap.engine import GivenEngine, taken_over
from trainers.wrap.given import GivenModel, given_model, options_of, run_of, sampled
from trainers.wrap.requirements import require_gateable, schedule_of

BEST = "best"
_NEED_A_PLAN: frozenset[str] = frozenset({"skip_data", "reshuffle"})


def gated(
    trainer: Any,
    suite: str | Path | Suite,
    *,
    line: str | None = None,
    on_fail: Sequence[Remedy] | None = None,
    looks: Sequence[float] = (1.0,),
    max_rollbacks: int = 3,
    name: str | None = None,
    store: str | Path | None = None,
    again: bool = False,
    reporter: Reporter | None = None,
) -> Any:
    """Put the gate around a `transformers.Trainer`, and return it: its `train()` now scores every
    checkpoint, rolls back those that are worse and ends with the best one in memory.

    suite     a YAML file, or what `harness.load_suite` gave
    line      what the offered checkpoint is promoted to at the end; None: nothing is
    on_fail   remedies one after the other: "skip_data", "reshuffle", "lower_lr", "stop". By default
              the first of them, where the data can be planned, then the last two
    looks     shares of the evidence, as a recipe's `on_inconclusive`
    max_rollbacks   after so many the training stops; alpha is split over all checkpoints and these
    name      of the training, by default that of the Trainer's output_dir
    store     the workspace's folder, by default RATCHET_HOME or `./.ratchet`
    again     begin anew; else the same script goes on where it was stopped

    Checkpoints lie in the workspace; `best` in output_dir is a link to the best one. How the
    training ended is `trainer.gate_result`, a `TrainingResult`. Raises UserError, before anything
    is trained, for what can't be gated.
    """
    require_gateable(trainer)
    workspace = Workspace.at(store)
    loader = trainer.get_train_dataloader()
    schedule = schedule_of(trainer, loader)
    arguments = trainer.args
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    batches = draw(loader, schedule, spare=max_rollbacks, seed=seed)
    why_not = _no_plan(batches, schedule)
    remedies = on_fail or (("lower_lr", "stop") if why_not else ("skip_data", "lower_lr", "stop"))
    options = options_of(suite, line, remedies, looks, max_rollbacks, name)
    if "skip_rows" in options.on_fail:
        raise UserError(
            "skip_rows needs rows that a recipe names by file and line, and this Trainer has its "
            "own",
            field="on_fail",
            hint="skip_data leaves out the whole segment; ratchet train RECIPE knows its rows",
        )
    if why_not and (wanted := _NEED_A_PLAN.intersection(options.on_fail)):
        raise UserError(
            f"{min(wanted)} needs an order of rows that can be planned anew, and {why_not}",
            field="on_fail",
            hint="on_fail=('lower_lr', 'stop') works with any Trainer",
        )
    model = given_model(trainer.model, trainer.processing_class, workspace)
    ranks = Ranks(arguments.process_index, arguments.world_size)
    run = run_of(
        model,
        options,
        workspace,
        arguments=arguments,
        steps=schedule.steps,
        checkpoint_every=schedule.checkpoint_every,
        trained_by=type(trainer).__name__,
        data=[sampled(trainer.train_dataset), batches and batches.digest],
    )
    # What a process draws is its own; the training is one.
    run = replace(run, training_id=ranks.share(run.training_id))
    gate = _Gate(trainer, trainer.train, model, run, schedule, batches, ranks, again, reporter)
    trainer.gate_result = None
    trainer.train = gate.train
    return trainer


def _no_plan(batches: Batches | None, schedule: Schedule) -> str | None:
    """Why data can't be left out; None where it can."""
    if batches is None:
        return "this Trainer's rows come as a stream"
    if not schedule.is_even:
        return (
            f"an epoch's {schedule.epoch} batches are no multiple of "
            f"gradient_accumulation_steps ({schedule.accumulated}), so that its steps learn from "
            "unequal parts (dataloader_drop_last and another batch size can mend it)"
        )
    return None


class LineReporter(ConsoleReporter):
    """A line for each checkpoint and no bars: the Trainer shows its own."""

    def train_step(self, step: int, of: int, loss: float | None) -> None:
        self._steps = of


class GivenTraining(GatedLoop):
    """One training of a Trainer that was given."""

    def __init__(
        self, run: StageRun, plan: DataPlan, limit: int | None, store: Store, *more: Any
    ) -> None:
        self._given_plan, self._limit = plan, limit
        super().__init__(run, store, *more)

    def plan_of(self, version: int) -> DataPlan:
        return self._given_plan

    def open_engine(self) -> GivenEngine:
        self.ranks.share(True)
        return self.given_engine

    given_engine: GivenEngine

    def saved(self, step: int) -> bool:
        back = super().saved(step)
        if self._limit is not None and not back:
            kept = [at for at, _ in self.folder.steps()]
            self.folder.rotate(self._limit, {step, target_of(self.state, kept)})
        return back

    @property
    def ends_with(self) -> int:
        """The step of the checkpoint that was offered, else the best one; where none was shown to
        be better than the beginning, the last one that did not fail, or what a training that
        stopped went back to.
        """
        if self.state.to_offer:
            return self.state.to_offer
        if self.state.status == "stopped":
            return self.state.start
        return max(step for step, _ in self.folder.steps())


@dataclass(frozen=True, slots=True)
class _Gate:
    """What stands in the place of a Trainer's `train`."""

    trainer: Any
    enter: Any
    model: GivenModel
    run: StageRun
    schedule: Schedule
    batches: Batches | None
    ranks: Ranks
    again: bool
    reporter: Reporter | None

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *words: Any, **named: Any
    ) -> Any:
        """Train under the gate; returns what the Trainer's own `train` returned at last."""
        if isinstance(resume_from_checkpoint, str):
            raise UserError(
                "a gated Trainer goes on from the checkpoints that it has judged itself",
                field="resume_from_checkpoint",
                hint="leave it out: the same script goes on where it was stopped",
            )
        if any(words) or any(named.values()):
            raise UserError(
                "a gated Trainer's train() takes no trial and no ignore_keys_for_eval",
                hint="search for hyperparameters first, and gate the training that is kept",
            )
        self.run.workspace.ensure()
        if not self.ranks.first:
            return self._follow()
        with Store(self.run.workspace) as store:
            return self._lead(store, self.reporter or LineReporter())

    def _lead(self, store: Store, reporter: Reporter) -> Any:
        limit = self.trainer.args.save_total_limit
        training = GivenTraining(self.run, self._plan, limit, store, reporter, self.ranks)
        reporter.say(
            f"Gated by {self.run.stage.suite.path.name}: {self.schedule.segments} checkpoints, "
            f"kept in {training.folder.kept}"
        )
        with self._taken_over(training, training.folder) as engine:
            training.given_engine = engine
            result = training.run(again=self.again)
        place = training.folder.require(training.ends_with)
        self.ranks.share(str(place))
        self._load(place)
        self.trainer.gate_result = result
        if isinstance(reporter, ConsoleReporter):
            show_result(result, store, reporter)
        reporter.say(f"{self._link(place)} is what the model in memory is now: {place}")
        return engine.output or self._nothing_done(training, reporter)

    def _follow(self) -> Any:
        engines: list[GivenEngine] = []
        follower = Follower(self.run, self.ranks, lambda watcher: engines[0])
        with self._taken_over(follower, CheckpointFolder(self.run.home)) as engine:
            engines.append(engine)
            follower.run()
        self._load(Path(self.ranks.share()))
        return engine.output

    @property
    def _plan(self) -> DataPlan:
        return plan_of(self.schedule, spare=self.run.stage.gate.max_rollbacks)

    @contextmanager
    def _taken_over(self, watcher: Watcher, folder: CheckpointFolder) -> Iterator[GivenEngine]:
        units = len(self._plan.segments) * self.schedule.units_per_segment
        with taken_over(
            self.trainer, watcher, folder.staging, self.batches, self.schedule.unit, units
        ) as order:
            yield GivenEngine(
                self.trainer, self.enter, self.run.method, self.model.tokenizer, order
            )

    def _load(self, place: Path) -> None:
        self.trainer._load_from_checkpoint(str(place))
        self.trainer.state.best_model_checkpoint = str(place)

    def _link(self, place: Path) -> str:
        """Lay a link beside the Trainer's own output; returns what to call it."""
        link = Path(self.trainer.args.output_dir) / BEST
        if link.exists() and not link.is_symlink():
            return "The best checkpoint"
        link.parent.mkdir(parents=True, exist_ok=True)
        replace_symlink(link, place)
        return str(link)

    def _nothing_done(self, training: GivenTraining, reporter: Reporter) -> Any:
        from transformers.trainer_utils import TrainOutput

        reporter.say("This training had ended before; again=True begins it anew.")
        return TrainOutput(training.ends_with, 0.0, {})
