"""The Trainer of a stage in this process: made once, entered again after each rollback."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.backends.base import Backend
from harness.models.resolve import ModelFiles
from trainers.checkpoints.folder import untouched_randomness
from trainers.config.precision import Machine
from trainers.distributed.sharding import (
    forget_sharding,
    load_whole_again,
    require_sharded,
    scattered,
)
from trainers.loop.stage_run import StageRun
from trainers.methods.base import Job, method_of
from trainers.methods.models import require_gpu_for

TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


@dataclass(frozen=True, slots=True)
class Segment:
    """One entry into `train()`: the rows of the whole stage as they are planned now, where it goes
    on from (None: the beginning), and the scale of the recipe's learning rate.
    """

    order: Sequence[int]
    resume: str | None
    lr_scale: float


class Watcher(Protocol):
    """Who is told by the Trainer, and may answer True: stop."""

    def began(self, step: int) -> bool: ...

    def saved(self, step: int) -> bool: ...

    def logged(self, step: int, logs: Mapping[str, Any]) -> bool: ...


class TrainerEngine(Protocol):
    """What the loop asks of a Trainer, be it made here or given."""

    @property
    def step(self) -> int:
        """How far the model that stands in memory is trained."""
        ...

    def backend(self, step: int, files: ModelFiles) -> Backend:
        """What the checkpoint of `step` is scored through."""
        ...

    def let_go(self) -> None:
        """Of what was read to be scored: its memory is the training's again."""
        ...

    def run(self, segment: Segment) -> None:
        """Train until the end, or until the watcher stops it."""
        ...

    def save(self) -> None:
        """Write the present state into staging, as the Trainer does by itself at later steps."""
        ...

    def validation_loss(self) -> float:
        """Mean loss on rows that are held out."""
        ...

    def set_learning_rate(self) -> None:
        """Apply the segment's scale; called where a segment begins, after what it resumed."""
        ...


class Engine:
    """Model, tokenizer and Trainer of one stage in this process."""

    def __init__(
        self,
        run: StageRun,
        output: Path,
        watcher: Watcher,
    ) -> None:
        require_gpu_for(run.recipe)
        self.method = method_of(run.stage.model.trainer)
        self._run, self._output, self._watcher = run, output, watcher
        self._sharding = run.options.sharding
        self._segment = Segment((), None, 1.0)
        self._used = False
        self._written: tuple[str, Backend] | None = None
        self.settled = run.settled
        self._make()

    def _make(self) -> None:
        run = self._run
        if self._sharding:
            forget_sharding()
        settled = self.settled
        model, tokenizer = self.method.open(
            run.recipe, run.base, run.start, dtype=settled.weights, device=self._device
        )
        self._live: Backend = self.method.backend(model, tokenizer)
        job = Job(
            run.recipe,
            run.stage,
            model,
            tokenizer,
            self._live,
            run.workspace,
            self._output,
            order=lambda: self._segment.order,
            callbacks=[callback_for(self._watcher)],
            sharding=self._sharding,
            settled=settled,
        )
        with _tensorboard_in(self._output.parent / "tensorboard"):
            self.trainer: Any = self.method.make(job)
        require_sharded(self._sharding, self.trainer)
        if self._sharding:
            load_whole_again()

    @property
    def _device(self) -> str:
        """Where the weights are read to: straight onto a GPU that will hold all of them."""
        if self._sharding or not Machine.here().is_gpu:
            return "cpu"
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"

    @property
    def step(self) -> int:
        """How far the model that stands in memory is trained."""
        reached: int = self.trainer.state.global_step
        return reached

    def backend(self, step: int, files: ModelFiles) -> Backend:
        """What the checkpoint of `step` is scored through: the model as it is now; or, where that
        has gone on, is held in another dtype, or no process has all of it, what was written of it.
        """
        whole = not scattered(self._sharding) and self.settled.weights == self.settled.scored
        if whole and step == self.step:
            return self._live
        if self._written is None or self._written[0] != files.digest:
            self._written = None
            model, tokenizer = self.method.load(
                files, dtype=self.settled.scored, device=str(self.trainer.args.device)
            )
            self._written = (files.digest, self.method.backend(model, tokenizer))
        return self._written[1]

    def let_go(self) -> None:
        """Of what was read to be scored: its memory is the training's again."""
        self._written = None

    def run(self, segment: Segment) -> None:
        """Train until the end, or until the watcher stops it."""
        # The Trainer asks for the order of rows while it runs: see `order` in _make.
        self._segment = segment
        if self._used and self._sharding:
            self._make_anew()
        self._used = True
        self.method.forget(self.trainer)
        with entering():
            self.trainer.train(resume_from_checkpoint=segment.resume)

    def _make_anew(self) -> None:
        """DeepSpeed and FSDP can't enter one Trainer twice: the model and all are made again."""
        del self.trainer, self._live
        gc.collect()
        self._make()

    def save(self) -> None:
        """Have the Trainer write the present state, as it does by itself at later steps."""
        self.trainer._save_checkpoint(self.trainer.model, None)

    def validation_loss(self) -> float:
        """Mean loss on the rows that are held out. Moves no random state."""
        with untouched_randomness():
            found: float = self.trainer.evaluate()["eval_loss"]
        return found

    def set_learning_rate(self) -> None:
        """The recipe's rate times the remedies' scale. Setting `args.learning_rate` would do
        nothing here: the rates live in the scheduler, which a resume has just restored.
        """
        scheduler = self.trainer.lr_scheduler
        rate = self._run.stage.model.learning_rate * self._segment.lr_scale
        if not hasattr(scheduler, "base_lrs") or all(b == rate for b in scheduler.base_lrs):
            return
        scales = [rate / base for base in scheduler.base_lrs]
        scheduler.base_lrs = [rate for _ in scheduler.base_lrs]
        scheduler._last_lr = [lr * s for lr, s in zip(scheduler._last_lr, scales, strict=True)]
        for group, scale in zip(scheduler.optimizer.param_groups, scales, strict=True):
            group["lr"] *= scale
            group["initial_lr"] = rate


@contextmanager
def _tensorboard_in(folder: Path) -> Iterator[None]:
    """Its callback would write beside the checkpoints in staging, which is cleared; it takes
    another place from the environment alone. The user's own wish there goes before ours.
    """
    if TENSORBOARD in os.environ:
        yield
        return
    os.environ[TENSORBOARD] = str(folder)
    try:
        yield
    finally:
        del os.environ[TENSORBOARD]


@contextmanager
def entering() -> Iterator[None]:
    """Around `train()`. The Trainer collects garbage as it is entered; looking through all that
    torch and transformers have ever made would take as long as the whole way back.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def callback_for(watcher: Watcher) -> Any:
    """The Trainer's callback that tells a watcher, and stops where it says so."""
    from transformers import TrainerCallback

    class Judge(TrainerCallback):  # type: ignore[misc]
        """Judges in `on_save`: the files are there, and every rank is."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            gc.unfreeze()
            if watcher.began(state.global_step):
                control.should_training_stop = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if watcher.saved(state.global_step):
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> Any:
            if watcher.logged(state.global_step, logs or {}):
                control.should_training_stop = True
            return control

    return Judge()
