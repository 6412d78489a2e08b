"""Reads versions of data sets: `dataset:NAME@v3` is a folder whose files are as it says."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.data.rows import Numbered, read_rows

DATASET = "dataset:"
FOLDER = "datasets"
META = "meta.json"
_NAME = re.compile(r"(?P<name>[^@]+)(?:@(?P<which>[^@]+))?")
_VERSION = re.compile(r"v([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a data set: its name, its number, its folder, and what `meta.json` says."""

    name: str
    number: int
    folder: Path
    meta: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}@v{self.number}"

    @property
    def digest(self) -> str:
        """Of all that it holds and how it was made, 16 hexadecimal digits."""
        return str(self.meta["digest"])

    def rows(self, part: str) -> Numbered:
        """(line, row) of `train` or `valid`. Raises UserError where it has none."""
        path = self.folder / f"{part}.jsonl"
        if not path.is_file() or not path.stat().st_size:
            raise UserError(f"{self} has no rows in {path.name}", file=path)
        return read_rows(path)


def is_dataset(name: str) -> bool:
    return name.startswith(DATASET)


def numbers_of(folder: Path) -> list[int]:
    """The numbers of the versions of the data set in `folder`, in order."""
    found = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for name in found if (match := _VERSION.fullmatch(name)))


def named_version(name: str, folder: Path, *, newest: bool = False) -> Version:
    """The version that `dataset:NAME@v3` or `dataset:NAME@DIGEST` stands for, its files checked.

    NAME is looked for in `datasets/` of `folder` and of each folder above it; with a `/` in it, it
    is a path from `folder`. Without a version the `newest` is meant, or it is an error: what a
    file names is the same tomorrow. Raises UserError, also where versions are made of each other.
    """
    match = _NAME.fullmatch(name.removeprefix(DATASET))
    if match is None:
        raise UserError(f"{name!r} names no data set", hint="write dataset:NAME@v1")
    place = _folder_of(match["name"], folder)
    numbers, which = numbers_of(place), match["which"]
    if not numbers:
        raise UserError("this data set has no version", file=place, hint="ratchet data build")
    if which is None and not newest:
        raise UserError(
            f"{name} names no version",
            hint=f"write {DATASET}{match['name']}@v{numbers[-1]}; what it holds never changes",
        )
    number = numbers[-1] if which is None else _number(place, numbers, which)
    version = read_version(place / f"v{number}")
    _require_no_cycle(version, place.parent)
    return version


def read_version(folder: Path) -> Version:
    """The version in a folder. Raises UserError where it isn't whole, or was changed."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        changed = [n for n, sha in meta["files"].items() if sha256_of_file(folder / n) != sha]
        number = int(_VERSION.fullmatch(folder.name)[1])  # type: ignore[index]
        version = Version(str(meta["name"]), number, folder, meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"this is no whole version of a data set: {error or type(error).__name__}",
            file=folder,
            hint="`ratchet data build` writes one",
        ) from None
    if changed:
        raise UserError(
            f"{changed[0]} was changed after it was written, and a version never changes",
            file=folder / changed[0],
            hint="put it back, or build a new version",
        )
    return version


def _folder_of(name: str, folder: Path) -> Path:
    if "/" in name:
        if not (folder / name).is_dir():
            raise UserError(f"there is no data set {name}", hint=f"looked for {folder / name}")
        return folder / name
    above = [folder.absolute(), *folder.absolute().parents]
    for place in above:
        if (place / FOLDER / name).is_dir():
            return place / FOLDER / name
    known = sorted({path.name for place in above for path in _sets_in(place / FOLDER)})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:8])}"
    if not known:
        hint = f"no `{FOLDER}/` holds any, in {folder} or above it; a path works too: dataset:DIR/X"
    raise UserError(f"there is no data set {name!r}", hint=hint)


def _sets_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_dir() and numbers_of(path))


def _number(place: Path, numbers: list[int], which: str) -> int:
    if (match := _VERSION.fullmatch(which)) and int(match[1]) in numbers:
        return int(match[1])
    if not match and len(which) >= 8:
        for number in numbers:
            if read_version(place / f"v{number}").digest.startswith(which):
                return number
    listed = ", ".join(f"v{number}" for number in numbers)
    raise UserError(f"{place.name} has no version {which!r}", file=place, hint=f"it has {listed}")


def _require_no_cycle(version: Version, folder: Path, way: tuple[str, ...] = ()) -> None:
    """Raises UserError where a version is among its own ancestors, as far as those are here."""
    if str(version) in way:
        circle = " of ".join((*way[way.index(str(version)) :], str(version)))
        raise UserError(
            f"these versions are made of each other: {circle}",
            file=version.folder,
            hint="build one of them again from what isn't made of it",
        )
    for parent in version.meta.get("parents", ()):
        name, _, number = str(parent["dataset"]).rpartition("@")
        place = folder / name / number
        if (place / META).is_file():
            _require_no_cycle(read_version(place), folder, (*way, str(version)))
