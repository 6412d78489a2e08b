"""The attention with which steps are taken, where a recipe names another than the scorer's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.core.errors import UserError
from trainers.methods.base import Job


@contextmanager
def attending(model: Any, kind: str | None) -> Iterator[None]:
    """The model with that attention inside the `with` block, and afterwards as it was. None
    changes nothing.
    """
    if kind is None:
        yield
        return
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [
        (config, config._attn_implementation)
        for config in configs.values()
        if hasattr(config, "_attn_implementation")
    ]
    for config, _ in before:
        config._attn_implementation = kind
    try:
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own


def with_attention(trainer_class: type[Any], job: Job) -> type[Any]:
    """The Trainer's class taking its steps with the stage's attention. Raises UserError where the
    model's class hasn't it.
    """
    kind = job.stage.model.trainer_options.attention
    if kind is None:
        return trainer_class
    require_attention(job, kind)

    class Attending(trainer_class):  # type: ignore[misc]
        # With the backward pass, in which activations may be computed once more.
        def training_step(self, *words: Any, **named: Any) -> Any:
            with attending(self.model, kind):
                return super().training_step(*words, **named)

        def prediction_step(self, *words: Any, **named: Any) -> Any:
            with attending(self.model, kind):
                return super().prediction_step(*words, **named)

    Attending.__name__ = trainer_class.__name__
    return Attending


def require_attention(job: Job, kind: str) -> None:
    """Raises UserError where the model can't be asked with that attention."""
    model = job.model.get_base_model() if hasattr(job.model, "get_base_model") else job.model
    own = model.config._attn_implementation
    try:
        model.set_attn_implementation(kind)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"{type(model).__name__} has no attention {kind!r}: "
            f"{str(error).strip().splitlines()[0]}",
            file=job.recipe.path,
            field="trainer_options.attention",
            hint="leave it out, or take `sdpa` or `eager`",
        ) from None
    finally:
        model.set_attn_implementation(own)
