"""Ratchet's centre: score a model on a suite, keep every score, decide whether it may pass.

    from harness import gate
    print(gate([1, 0, 1, 1], [1, 1, 1, 1]))

What a script or a notebook needs is here; each name is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

    from harness.api import gate, open_model, score
    from harness.core.errors import UserError
    from harness.gate.verdict import Verdict
    from harness.store.store import Store
    from harness.suite.load import load_suite

__all__ = ["Store", "UserError", "Verdict", "gate", "load_suite", "open_model", "score"]

_HOMES = {
    "Store": "harness.store.store",
    "UserError": "harness.core.errors",
    "Verdict": "harness.gate.verdict",
    "load_suite": "harness.suite.load",
    "open_model": "harness.api",
    "score": "harness.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Gate(ModuleType):
    """The package `harness.gate`, which may also be called: it is then the function `gate`.

    To import any module of that package binds the name `gate` here to the package, whatever it
    was before. So that `from harness import gate` means one thing in any order of imports, the
    package itself answers a call. It is done from here, since the package imports nothing above it.
    """

    def __call__(self, *sides: Any, **options: Any) -> Verdict:
        """Whether a candidate is worse than an anchor: see `harness.api.gate`."""
        from harness.api import gate

        return gate(*sides, **options)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        from harness.api import gate

        return signature(gate)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


importlib.import_module("harness.gate")
sys.modules["harness.gate"].__class__ = _Gate
