"""Stands in for `pip install ratchet-eval` without extras: a wall before all other libraries."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.machinery import PathFinder
from typing import Any, ClassVar

from packaging.requirements import Requirement

DISTRIBUTION = "ratchet-eval"


def brought_along(name: str, seen: set[str] | None = None) -> set[str]:
    """The distributions that pip brings with one, itself included, by their plain names."""
    seen = set() if seen is None else seen
    if plain(name) in seen:
        return seen
    try:
        asked = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    seen.add(plain(name))
    for line in asked:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            brought_along(requirement.name, seen)
    return seen


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


class Plain(PathFinder):
    """Finds what a plain install brings, and of other distributions nothing."""

    hidden: ClassVar[set[str]] = set()

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] in cls.hidden:
            return None
        return PathFinder.find_spec(fullname, path, target)


def stand() -> set[str]:
    """Put the wall up in this process, a child that has imported none of it yet; what it hides."""
    allowed = brought_along(DISTRIBUTION)
    Plain.hidden = {
        top
        for top, owners in metadata.packages_distributions().items()
        if not allowed & {plain(owner) for owner in owners}
    }
    Plain.hidden -= {"tests", "harness", "trainers", "dashboard", *sys.stdlib_module_names}
    sys.meta_path[:] = [Plain if finder is PathFinder else finder for finder in sys.meta_path]
    return Plain.hidden
