"""Recipes to gated trainings: train a segment, score the checkpoint, go on or roll back.

    from trainers import gated
    trainer = gated(trainer, suite="suite.yaml", line="my-model")

puts the same gate around a Trainer that somebody else has made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.wrap.callback import GateCallback
    from trainers.wrap.gated import gated

__all__ = ["GateCallback", "gated"]

_HOMES = {"GateCallback": "trainers.wrap.callback", "gated": "trainers.wrap.gated"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
