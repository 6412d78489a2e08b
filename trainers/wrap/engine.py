"""A given Trainer as the loop drives it: entered again after each rollback, its order planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.backends.base import Backend
from harness.models.resolve import ModelFiles
from trainers.checkpoints.folder import untouched_randomness
from trainers.loop.engine import Segment, callback_for, entering
from trainers.methods.base import Method
from trainers.wrap.batches import Batches, PlannedBatches, batch_sampler_of, put_in

SCALE = "ratchet_lr_scale"
"""In an optimizer's groups: by what their rates have been scaled. It is saved with them, so that a
checkpoint that was written under a lower rate is not lowered twice."""

_TAKEN_OVER = {
    # The gate keeps what is worth keeping, and loads the best at the end.
    "save_total_limit": None,
    "load_best_model_at_end": False,
    # Nothing is published before it is judged.
    "push_to_hub": False,
    # A loss that is not a number must be seen, not averaged away.
    "logging_nan_inf_filter": False,
}


class GivenEngine:
    """Of one Trainer, between `taken_over` and its end. `enter` is its own `train`."""

    def __init__(
        self,
        trainer: Any,
        enter: Callable[..., Any],
        method: Method,
        tokenizer: Any,
        order: _Order,
    ) -> None:
        self.trainer = trainer
        self.output: Any = None
        self._enter = enter
        self._method, self._tokenizer = method, tokenizer
        self._order = order
        self._scale = 1.0
        self._live: tuple[Any, Backend] | None = None
        self._written: tuple[str, Backend] | None = None

    @property
    def step(self) -> int:
        reached: int = self.trainer.state.global_step
        return reached

    def backend(self, step: int, files: ModelFiles) -> Backend:
        """The model as it is now; where it has gone on, what was written of it."""
        if step == self.step:
            return self._live_backend()
        if self._written is None or self._written[0] != files.digest:
            self._written = None
            self._written = files.digest, self._method.backend(*self._method.load(files))
        return self._written[1]

    def let_go(self) -> None:
        self._written = None

    def _live_backend(self) -> Backend:
        model = self.trainer.model
        # A Trainer with `model_init` makes another model each time that it is entered.
        if self._live is None or self._live[0] is not model:
            self._live = model, self._method.backend(model, self._tokenizer)
        return self._live[1]

    def run(self, segment: Segment) -> None:
        self._scale = segment.lr_scale
        self._order.now = segment.order
        forget(self.trainer)
        with entering():
            self.output = self._enter(resume_from_checkpoint=segment.resume)

    def save(self) -> None:
        self.trainer._save_checkpoint(self.trainer.model, None)

    def validation_loss(self) -> float:
        with untouched_randomness():
            found: float = self.trainer.evaluate()["eval_loss"]
        return found

    def set_learning_rate(self) -> None:
        """Whatever scheduler it is: what it has just restored is scaled to what is wanted."""
        scheduler, optimizer = self.trainer.lr_scheduler, self.trainer.optimizer
        for number, group in enumerate(optimizer.param_groups):
            by = self._scale / group.get(SCALE, 1.0)
            if by == 1:
                continue
            group[SCALE] = self._scale
            group["lr"] *= by
            if "initial_lr" in group:
                group["initial_lr"] *= by
            for rates in (getattr(scheduler, name, None) for name in ("base_lrs", "_last_lr")):
                if rates is not None and number < len(rates):
                    rates[number] *= by


class _Order:
    """The order of units that holds now; the units that it leaves out come after it."""

    def __init__(self, units: int) -> None:
        self._units = units
        self.now: Sequence[int] = range(units)

    def __call__(self) -> Sequence[int]:
        left = set(range(self._units)) - set(self.now)
        return [*self.now, *sorted(left)]


def forget(trainer: Any) -> None:
    """Answers that TRL's trainers keep from step to step belong to the state that was left."""
    if hasattr(trainer, "_buffered_inputs"):
        trainer._buffered_inputs = None
        trainer._step = 0
    if hasattr(trainer, "_last_loaded_step"):
        trainer._last_loaded_step = -1


@contextmanager
def taken_over(
    trainer: Any, watcher: Any, staging: Path, batches: Batches | None, unit: int, units: int
) -> Iterator[_Order]:
    """While the gate drives it, the Trainer saves into `staging` and takes the planned batches;
    after that everything is as it was.
    """
    order = _Order(units)
    arguments = trainer.args
    before = {name: getattr(arguments, name) for name in _TAKEN_OVER if hasattr(arguments, name)}
    callback = callback_for(watcher)
    make_loader = trainer.get_train_dataloader

    def planned() -> Any:
        loader = make_loader()
        if batches is None:
            return loader
        sampler = PlannedBatches(batches, unit, order, batch_sampler_of(loader))
        return put_in(loader, sampler)

    def output(trial: Any = None) -> str:
        return str(staging)

    ours = {"get_train_dataloader": planned, "_get_output_dir": output}
    theirs = {name: vars(trainer)[name] for name in ours if name in vars(trainer)}
    for name in before:
        setattr(arguments, name, _TAKEN_OVER[name])
    vars(trainer).update(ours)
    trainer.add_callback(callback)
    try:
        yield order
    finally:
        trainer.remove_callback(callback)
        for name in ours:
            del vars(trainer)[name]
        vars(trainer).update(theirs)
        for name, value in before.items():
            setattr(arguments, name, value)
