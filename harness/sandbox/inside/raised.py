"""What a program raised, as the judge raises it again: stand-ins for its exceptions."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Sequence
from typing import Any

LINEAGE = 20
"""How many base classes of a program's exception get a stand-in of their own."""

_TOLD = "_told"


class Raised:
    """The stand-ins of one program, by name."""

    def __init__(self) -> None:
        self._known: dict[str, type[Exception]] = {}

    def kind(self, lineage: Sequence[Any]) -> type[Exception]:
        """A stand-in for an exception of the program's, beneath stand-ins for its bases."""
        kind = _builtin(lineage[-1])
        for name in map(str, reversed(lineage[-LINEAGE:-1])):
            made = type(name, (kind,), {"__str__": _as_told})
            kind = self._known.setdefault(name, made)
        return kind

    def error(
        self, lineage: Sequence[Any], text: str, args: list[Any], named: list[Any]
    ) -> Exception:
        """An exception with the arguments and the attributes that the program's had.

        Raises ValueError for attributes that are no pairs of a name and a value.
        """
        try:
            error = self.kind(lineage)(*args)
        except Exception:  # noqa: BLE001 - a kind that takes others than these
            return self.plain(lineage, text)
        for name, value in named:
            if type(name) is not str:
                raise ValueError
            if name.isidentifier() and not name.startswith("__"):
                with contextlib.suppress(AttributeError, TypeError, ValueError):
                    setattr(error, name, value)
        error.__dict__[_TOLD] = _message(lineage, text)
        return error

    def plain(self, lineage: Sequence[Any], text: str) -> Exception:
        """One of which only its words are known."""
        kind, message = self.kind(lineage), _message(lineage, text)
        try:
            return kind(message) if message else kind()
        except TypeError:  # UnicodeDecodeError and its like take more than a message
            return ValueError(text)


def _as_told(error: Exception) -> str:
    """What the program's own exception says of itself."""
    return str(vars(error).get(_TOLD, Exception.__str__(error)))


def _message(lineage: Sequence[Any], text: str) -> str:
    return text.removeprefix(str(lineage[0])).removeprefix(": ")


def _builtin(name: str) -> type[Exception]:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError
