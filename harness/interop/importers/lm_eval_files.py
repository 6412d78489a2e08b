"""Which files of a folder are lm-eval's results, and what one of them holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.interop.importers.common import read_json

_STAMP = re.compile(r"(?P<stem>.+)_(?P<stamp>\d{4}-\d\d-\d\dT[\d.:-]+)\.json")
"""`results_STAMP.json` of a folder; with `--output_path NAME.json`, `NAME_STAMP.json`."""


@dataclass(frozen=True, slots=True)
class Results:
    """One results file: what lm-eval reported, by part and task."""

    path: Path
    content: Mapping[str, Any]

    def of(self, part: str, task: str) -> Any:
        found = self.content.get(part)
        return found.get(task) if isinstance(found, Mapping) else None

    def config(self, task: str) -> Mapping[str, Any]:
        found = self.of("configs", task)
        return found if isinstance(found, Mapping) else {}

    @property
    def tasks(self) -> list[str]:
        """Tasks that it has a result or a configuration of; a group has no configuration."""
        return [str(task) for task in dict.fromkeys((*self.content["results"], *self.configured))]

    @property
    def configured(self) -> Mapping[str, Any]:
        """Task -> how it was set up."""
        found = self.content.get("configs")
        return found if isinstance(found, Mapping) else {}

    @property
    def stamp(self) -> str:
        """The time in its name, which its samples have in theirs."""
        return stamp_of(self.path)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How lm-eval was called."""
        found: Mapping[str, Any] = self.content.get("config") or {}
        return found


def _read_results(path: Path) -> Results:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise _no_results(path, "results")
    for part in ("config", "configs"):
        if not isinstance(content.get(part) or {}, dict):
            raise _no_results(path, part)
    return Results(path, content)


def _no_results(path: Path, field: str) -> UserError:
    return UserError(
        "this is not a results file of lm-eval",
        file=path,
        field=field,
        hint="name the folder that lm-eval's --output_path wrote",
    )


def results_files(place: Path) -> tuple[list[Results], list[str]]:
    """The results there, the oldest first, and a note on those that are left out."""
    if place.is_file():
        return [_read_results(place)], []
    if not place.is_dir():
        raise UserError("there is no such folder", file=place, hint="check its spelling")
    found = sorted((p for p in place.rglob("*.json") if _is_results(p)), key=stamp_of)
    if not found:
        raise UserError(
            "there is no results_*.json here",
            file=place,
            hint="name the folder, or the .json file, that lm-eval's --output_path wrote",
        )
    folders = sorted({str(path.parent.relative_to(place)) for path in found})
    if len(folders) > 1:
        raise UserError(
            f"there are results of several models: {', '.join(folders)}",
            file=place,
            hint="name one of these folders",
        )
    # A run without samples beside one with them was only not logged: it is said, and left out.
    logged = [path for path in found if any(path.parent.glob(f"samples_*_{stamp_of(path)}.jsonl"))]
    notes = [
        f"{p.name} is left out: it has no samples" for p in found if logged and p not in logged
    ]
    return [_read_results(path) for path in logged or found], notes


def _is_results(path: Path) -> bool:
    """By its name, and for a name of the user's own (`--output_path NAME.json`) by its content."""
    if re.fullmatch(r"results_.+\.json", path.name):
        return True
    if not _STAMP.fullmatch(path.name):
        return False
    content = read_json(path)
    return isinstance(content, dict) and {"results", "configs"} <= content.keys()


def stamp_of(path: Path) -> str:
    found = _STAMP.fullmatch(path.name)
    return found.group("stamp") if found else path.stem.removeprefix("results_")
