"""Which extra brings a library that isn't installed, said in one line to type."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata

from harness.core.errors import UserError

DISTRIBUTION = "ratchet-eval"

_IMPORTED_AS = {
    "alt-profanity-check": "profanity_check",
    "pillow": "PIL",
    "python-stdnum": "stdnum",
    "opentelemetry-proto": "opentelemetry",
    "vl-convert-python": "vl_convert",
    "mlflow-skinny": "mlflow",
    "s3fs": "fsspec",
    "nvidia-ml-py": "pynvml",
}
"""Libraries that are imported by another name than they are installed by."""

_FOR_OTHERS = ("all", "dev", "models", "quantise")
"""Extras that are never the line to type: they hold others, or aren't for users."""


def missing_part(error: BaseException) -> UserError | None:
    """The message for a library of one of our extras that isn't there; None for any other error.

    The error may stand anywhere in the chain of causes.
    """
    for cause in _chain(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            name = cause.name.partition(".")[0]
            extra = _extras().get(name)
            if extra is not None:
                return _lacking(name, extra)
    return None


def require_part(extra: str, *modules: str) -> None:
    """Raise UserError where one of these top-level modules isn't installed; imports none of them.

    For a verb that would find it out late, or in another process.
    """
    for name in modules:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise _lacking(name, extra)


def _lacking(name: str, extra: str) -> UserError:
    return UserError(
        f"this needs {name}, which is not installed",
        hint=f"pip install '{DISTRIBUTION}[{extra}]'",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@cache
def _extras() -> dict[str, str]:
    """Top-level module -> the extra that brings it, the first in pyproject's order."""
    try:
        asked = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in asked:
        named = re.match(r"([A-Za-z0-9._-]+)", line)
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        if named is None or extra is None or extra[1] in _FOR_OTHERS:
            continue
        module = _IMPORTED_AS.get(named[1], named[1].replace("-", "_").lower())
        found.setdefault(module, extra[1])
    found.pop(DISTRIBUTION.replace("-", "_"), None)
    return found
