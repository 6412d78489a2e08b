"""Tables of what can be added: Ratchet's own names, and those of installed packages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.core.errors import UserError
from harness.core.parts import missing_part


@dataclass(frozen=True, slots=True)
class PluginTable:
    """The plug-ins of one kind by name; each is imported only when it is asked for.

    group     the entry-point group in which a package registers its own
    kind      what one is called in messages: `metric`, `backend`, `trainer`, `importer`
    built_in  the names that ship, each with its `module:attribute`
    also      what else may be named, for the message about a name that is not there
    """

    group: str
    kind: str
    built_in: Mapping[str, str]
    also: str = ""

    @property
    def added(self) -> tuple[EntryPoint, ...]:
        """What installed packages register, sorted by name."""
        return added_by_packages(self.group)

    def names(self) -> list[str]:
        """Every name: those that ship in their order, then those of packages, sorted."""
        added = dict.fromkeys(point.name for point in self.added)
        return [*self.built_in, *(name for name in added if name not in self.built_in)]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def load(self, name: str) -> Any:
        """The object registered under `name`.

        Raises UserError for a name that is not there, for one that two packages claim or that a
        package takes from Ratchet, and for a package's that can't be imported.
        """
        points = [point for point in self.added if point.name == name]
        if name in self.built_in and not points:
            return imported(self.built_in[name])
        if not points:
            raise self.unknown(name)
        claims = [*(["Ratchet"] if name in self.built_in else []), *map(package_of, points)]
        if len(claims) > 1:
            raise UserError(
                f"the {self.kind} {name!r} is claimed by {' and by '.join(claims)}",
                field=name,
                hint=f"uninstall one of them, or register it under another name of {self.group}",
            )
        return load_point(points[0], f"the {self.kind} {name!r}")

    def unknown(self, name: str) -> UserError:
        """The error for a name that is not in the table, with those that are near or there."""
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        return UserError(
            f"there is no {self.kind} named {name!r}",
            field=name,
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else f"known are {', '.join(names)}{self.also}",
        )


def imported(target: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def added_by_packages(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group by name. Read once: all installed packages are looked at."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def package_of(point: EntryPoint) -> str:
    """The package that registers an entry point, or its module where that is not known."""
    return point.dist.name if point.dist is not None else point.module


def load_point(point: EntryPoint, what: str) -> Any:
    """What an entry point names. Raises UserError naming the package where its import fails."""
    try:
        return point.load()
    except UserError:
        raise
    except Exception as error:
        part = missing_part(error)
        if part is not None:
            raise part from error
        raise UserError(
            f"{what} of the package {package_of(point)} can't be loaded: "
            f"{type(error).__name__}: {error}",
            field=point.name,
            hint=f"see where it fails: python -c 'import {point.module}'",
        ) from error
