"""A callback for any Trainer of transformers that gives the verdict and stops: no rolling back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from harness.backends.base import Backend
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles
from harness.store.store import Store
from harness.suite.suite import Suite
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import Status
from trainers.distributed.ranks import ALONE, Ranks
from trainers.loop.engine import Segment
from trainers.loop.reporter import Reporter
from trainers.loop.stage_run import StageRun
from trainers.wrap.gated import LineReporter
from trainers.wrap.given import GivenModel, given_model, options_of, run_of
from trainers.wrap.watched import Watched


class GateCallback(TrainerCallback):  # type: ignore[misc]
    """Scores and judges every checkpoint where the Trainer has saved it, against the model as the
    training began and against the best checkpoint so far; on a FAIL it stops the training.

        trainer.add_callback(GateCallback(suite="suite.yaml"))

    The Trainer's own files are only read. `save_total_limit` keeps the best checkpoint; whatever
    `load_best_model_at_end` picks by another measure is refused. Rolling back needs the Trainer
    itself: `trainers.gated`.

    suite    a YAML file, or what `harness.load_suite` gave
    line     what the offered checkpoint is promoted to where no FAIL stopped it; None: nothing is
    stop     False: only say so, and train on
    looks    shares of the evidence, as a recipe's `on_inconclusive`
    name     of the training, by default that of the Trainer's output_dir
    store    the workspace's folder, by default RATCHET_HOME or `./.ratchet`
    """

    def __init__(
        self,
        suite: str | Path | Suite,
        *,
        line: str | None = None,
        stop: bool = True,
        looks: Sequence[float] = (1.0,),
        name: str | None = None,
        store: str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._options = options_of(suite, line, ("stop",), looks, 0, name)
        self._workspace = Workspace.at(store)
        self._stop = stop
        self._reporter = reporter or LineReporter()
        self._ranks = ALONE
        self._store: Store | None = None
        self._training: _Watched | None = None

    @property
    def verdicts(self) -> dict[int, str]:
        """Step -> `anchor`, `pass`, `held` or `fail`, as far as has been judged."""
        state = None if self._training is None else self._training.state
        return {judged.step: judged.outcome for judged in state.judged} if state else {}

    @property
    def best(self) -> Path | None:
        """The best checkpoint so far; None while none was shown to be better than the beginning."""
        training = self._training
        if training is None or not training.state.best_checkpoint:
            return None
        return training.folder.path(training.state.best_checkpoint)

    def on_train_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        _require_watchable(args)
        self._ranks = Ranks(args.process_index, args.world_size)
        if not state.is_world_process_zero:
            return
        model = given_model(told["model"], told.get("processing_class"), self._workspace.ensure())
        run = run_of(
            model,
            self._options,
            self._workspace,
            arguments=args,
            steps=state.max_steps,
            checkpoint_every=_every(args, state),
            trained_by="GateCallback",
        )
        self._store = Store(self._workspace)
        self._training = _Watched(run, model, Path(args.output_dir), self._store, self._reporter)
        self._training.open(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        failed = False
        if self._training is not None:
            failed = self._training.judge_saved(state.global_step)
            if self.best is not None:
                # What the Trainer's own rotation leaves in its place.
                state.best_model_checkpoint = str(self.best)
        # All processes stop at once, or wait for each other for good.
        if self._ranks.share(failed) and self._stop:
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self._training is not None:
            self._training.heard(state.global_step, logs or {})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._training is not None and self._store is not None:
            early = self._training.has_failed and state.global_step < state.max_steps
            status: Status = "stopped" if early else "finished"
            self._training.finish(status, step=state.global_step)
            self._store.close()
            self._store = None


def _require_watchable(arguments: Any) -> None:
    """Raises UserError where the best checkpoint could be lost, or nothing be scored."""
    how = str(getattr(arguments.save_strategy, "value", arguments.save_strategy))
    if how not in ("steps", "epoch"):
        raise UserError(
            f"with save_strategy={how!r} there are no checkpoints to judge, or only those that a "
            "metric of the Trainer's own picks",
            field="save_strategy",
            hint="set save_strategy='steps' and save_steps",
        )
    rotates = arguments.metric_for_best_model and arguments.save_total_limit
    if arguments.load_best_model_at_end or rotates:
        field = "metric_for_best_model" if rotates else "load_best_model_at_end"
        raise UserError(
            f"the Trainer keeps what is best by {arguments.metric_for_best_model}, and would "
            "delete what the gate finds best",
            field=field,
            hint="leave it out (GateCallback.best is the best checkpoint's folder), or take "
            "trainers.gated, which keeps and loads the best by itself",
        )
    if arguments.deepspeed or arguments.fsdp:
        raise UserError(
            "under DeepSpeed and FSDP no process has the whole model to be scored",
            field="deepspeed" if arguments.deepspeed else "fsdp",
            hint="watch the folder from beside it: ratchet follow DIR --suite FILE",
        )


def _every(arguments: Any, state: Any) -> int:
    how = str(getattr(arguments.save_strategy, "value", arguments.save_strategy))
    if how == "epoch":
        whole: int = math.ceil(float(state.max_steps) / max(1, state.num_train_epochs))
        return max(1, whole)
    return max(1, int(state.save_steps))


class _TheirFolder(CheckpointFolder):
    """Checkpoint-0 is kept here; all others stay where the Trainer has saved them."""

    def __init__(self, home: Path, theirs: Path) -> None:
        super().__init__(home)
        self._theirs = theirs
        self._measures: dict[int, dict[str, float]] = {}

    def path(self, step: int) -> Path:
        return self._theirs / f"checkpoint-{step}" if step else super().path(0)

    def commit(
        self, step: int, *, measures: Mapping[str, float] | None = None, **more: Any
    ) -> Path:
        if not step:
            return super().commit(step, measures=measures, **more)
        self._measures[step] = dict(measures or {})
        return self.path(step)

    def measures(self, step: int) -> dict[str, float]:
        return self._measures.get(step, {})

    def steps(self) -> Iterator[tuple[int, int]]:
        yield from super().steps()
        yield from ((step, 1) for step in sorted(self._measures) if self.path(step).is_dir())

    def require(self, step: int) -> Path:
        if step and not self.path(step).is_dir():
            raise UserError("the best checkpoint is gone", file=self.path(step))
        return self.path(step) if step else super().require(0)


class _Watched(Watched):
    """With a Trainer that tells where it has saved."""

    def __init__(
        self, run: StageRun, model: GivenModel, theirs: Path, store: Store, reporter: Reporter
    ) -> None:
        super().__init__(run, _TheirFolder(run.home, theirs), store, reporter)
        self.reached = 0
        self.engine = _LiveModel(self, model)

    def open(self, step: int) -> None:
        """The Trainer begins at 0, or goes on from a checkpoint of its own."""
        self.record.open(again=step == 0 and self.record.path.exists())
        self.reached = step
        if step and self.state.of(0) is None:
            raise UserError(
                f"this training goes on from step {step}, and its beginning was never judged",
                hint="begin it with the callback in place, or compare its checkpoints with another "
                "model: ratchet follow DIR --suite FILE --against MODEL",
            )
        self.began(step)

    def judge_saved(self, step: int) -> bool:
        self.reached = step
        return super().judge_saved(step)

    def heard(self, step: int, logs: Mapping[str, Any]) -> None:
        if "loss" in logs:
            self.record.log.step(step, self.state.attempt, logs)
            self.health.hear(logs)


class _LiveModel:
    """As much of a `TrainerEngine` as a training needs that is only watched."""

    def __init__(self, training: _Watched, given: GivenModel) -> None:
        self._training, self._given = training, given
        self._live: Backend | None = None

    @property
    def step(self) -> int:
        return self._training.reached

    def backend(self, step: int, files: ModelFiles) -> Backend:
        given = self._given
        self._live = self._live or given.method.backend(given.model, given.tokenizer)
        return self._live

    def let_go(self) -> None:
        """Nothing was read: it is the live model that is asked."""

    def save(self) -> None:
        folder = self._training.folder.staging / "checkpoint-0"
        self._given.model.save_pretrained(folder)
        self._given.tokenizer.save_pretrained(folder)

    def run(self, segment: Segment) -> None:
        raise NotImplementedError("it is the Trainer that enters itself")

    def validation_loss(self) -> float:
        raise NotImplementedError("no health rule of a watched training asks for it")

    def set_learning_rate(self) -> None:
        """It is the Trainer's."""
