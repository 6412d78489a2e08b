"""Finds the rows that a name stands for: a file, several by a pattern, a folder, a hub dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError
from harness.core.types import Row
from harness.data.datasets import is_dataset, named_version
from harness.data.rows import Broken, Numbered, is_table, kind_of, read_rows

HUB = "hub:"
_SPLIT = re.compile(r"(?:^|[^a-z])(train|test|valid|validation|dev|eval)(?![a-z])")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row and where it stands: its file, folder or hub name, and its line or number there."""

    file: Path
    line: int
    row: Row

    @property
    def from_table(self) -> bool:
        """Whether objects in it have every key that any row's has, null where they had none."""
        kind = kind_of(self.file)
        return kind is None or is_table(kind)


def is_hub(name: str) -> bool:
    return name.startswith(HUB)


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several files."""
    return _PATTERN.search(name) is not None


def read_source(
    name: str, folder: Path, *, split: str, broken: Broken | None = None
) -> list[SourceRow]:
    """Every row of a source, in an order that does not change.

    `name` is a file, a folder of files or of what datasets saved (`save_to_disk`), a pattern such
    as `data/*.jsonl`, all relative to `folder`; `hub:OWNER/NAME[:CONFIG][:SPLIT]`, of which
    `split` is read where none is named; or `dataset:NAME@v3`, of which `train` is read for that
    split, and `valid` for any other.
    `broken` is told of lines that can't be read (see `read_rows`). Raises UserError.
    """
    if is_dataset(name):
        version = named_version(name, folder)
        part = "train" if split == "train" else "valid"
        file = version.folder / f"{part}.jsonl"
        return [SourceRow(file, n, row) for n, row in version.rows(part)]
    if is_hub(name):
        return [SourceRow(Path(name), n, row) for n, row in read_hub(name, folder, split=split)]
    path = folder / name
    if not path.exists():
        if "://" in name or not is_pattern(name):
            raise _not_there(name, path)
        found = _matching(name, folder)
        return [SourceRow(file, n, row) for file in found for n, row in read_rows(file, broken)]
    if not path.is_dir():
        return [SourceRow(path, number, row) for number, row in read_rows(path, broken)]
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return [SourceRow(path, number, row) for number, row in _saved(path)]
    files = _files_of(path)
    return [SourceRow(file, n, row) for file in files for n, row in read_rows(file, broken)]


def _not_there(name: str, path: Path) -> UserError:
    hint = f"paths are relative to the file that names them: looked for {path}"
    if "://" in name:
        hint = "fetch it first; a dataset of the hub is `hub:OWNER/NAME[:CONFIG][:SPLIT]`"
    elif name.startswith("~"):
        hint = f"`~` is not filled in here: write {Path(name).expanduser()}"
    elif not Path(name).suffix and name.count("/") <= 1:
        hint += f"; a dataset of the hub is `{HUB}{name}`"
    return UserError(f"the data is not there: {name}", hint=hint)


def _matching(name: str, folder: Path) -> list[Path]:
    """The files that a pattern takes, sorted by name."""
    pattern = Path(name)
    root = Path(pattern.anchor) if pattern.is_absolute() else folder
    try:
        found = sorted(root.glob(str(pattern.relative_to(pattern.anchor))))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{name} is no pattern of files: {error}") from None
    files = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise UserError(
            f"no file matches {name}", hint=f"looked in {folder}; `**/` goes into folders"
        )
    return files


def _files_of(folder: Path) -> list[Path]:
    """A folder's data files, where they are of one kind and one split."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in visible if path.is_file() and kind_of(path))
    if not files:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
        more = f"; it has the folders {', '.join(inside[:5])}" if inside else ""
        raise UserError(
            "this folder has no file of rows", file=folder, hint=f"name a file or a pattern{more}"
        )
    splits = {match[1] for path in files if (match := _SPLIT.search(path.name.lower()))}
    kinds = {str(kind_of(path)) for path in files}
    if len(splits) > 1 or len(kinds) > 1:
        what = ", ".join(sorted(splits if len(splits) > 1 else kinds))
        raise UserError(
            f"this folder has files of several {'splits' if len(splits) > 1 else 'kinds'}: {what}",
            file=folder,
            hint=f"say which are meant, such as `{folder.name}/*{_example(files)}`",
        )
    return files


def _example(files: list[Path]) -> str:
    named = [match[1] for path in files if (match := _SPLIT.search(path.name.lower()))]
    return f"{named[-1]}*" if named else files[0].suffix


def _saved(folder: Path) -> Numbered:
    """The rows of what datasets' `save_to_disk` wrote."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"what datasets saved here can't be read: {reason}",
            file=folder,
            hint="save it again with `save_to_disk`",
        ) from None
    if isinstance(found, DatasetDict):
        if len(found) != 1:
            raise UserError(
                f"this folder holds several splits: {', '.join(found)}",
                file=folder,
                hint=f"name one: {folder.name}/{next(iter(found), 'train')}",
            )
        found = next(iter(found.values()))
    rows = [(number, dict(row)) for number, row in enumerate(_plain(found), start=1)]
    if not rows:
        raise UserError("the dataset has no rows", file=folder, hint="give at least one row")
    return rows


def _plain(dataset: object) -> Iterator[Row]:
    """The rows as Python has them, whatever they were formatted for."""
    whole: Iterator[Row] = iter(dataset.with_format(None))  # type: ignore[attr-defined]
    return whole


def read_hub(name: str, folder: Path | None = None, *, split: str = "test") -> Numbered:
    """(number from 1, row) of a hub dataset, `hub:owner/name[:config][:split]`.

    A folder may stand in the name's place, relative to `folder`. Raises UserError where it can't be
    loaded, such as offline.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    place, config, split = _hub_parts(name, split)
    local = None if folder is None else folder / place
    try:
        where = str(local) if local is not None and local.is_dir() else place
        dataset = load_dataset(where, config, split=split)
    except (OSError, ValueError, DatasetsError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the dataset {place!r} (split {split!r}) can't be loaded: {reason}",
            hint="check its name, config and split, go online once, or give a JSONL file",
        ) from None
    rows = [(number, dict(row)) for number, row in enumerate(dataset, start=1)]
    if not rows:
        raise UserError(f"the dataset {place!r} (split {split!r}) has no rows")
    return rows


def _hub_parts(name: str, split: str) -> tuple[str, str | None, str]:
    place, *rest = name.removeprefix(HUB).split(":")
    if not place or len(rest) > 2:
        raise UserError(f"{name!r} names no dataset", hint="write hub:OWNER/NAME[:CONFIG][:SPLIT]")
    config = rest[0] if len(rest) == 2 else None
    return place, config or None, (rest[-1] if rest else "") or split
