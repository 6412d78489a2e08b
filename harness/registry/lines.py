"""A line on disk: which checkpoint is promoted, and every version before it.

    lines/support-bot/
      blessed        -> current/blessed       follow this to the model's folder
      blessed.json   -> current/blessed.json  the same as a pointer, with who, when and why
      current        -> versions/000003       the only thing that a promotion changes
      versions/000003/{blessed, blessed.json} never changed

The files keep the names that servers already follow, from when a promotion was called a blessing.
One rename moves `current`, and both names with it: a reader sees the old version or the new.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.files import replace_symlink, staged

POINTER = "blessed.json"
ALIAS = "blessed"
CANDIDATE = "candidate"
"""Beside the alias, while a canary runs: what some users get (`watch.rollout.traffic_split`)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class PromotedVersion:
    """One version of a line.

    `number` counts from 1; `event` is `promoted` or `rolled_back`; `previous` is the number of
    the version that a rollback would go to, None where there is none; `path` is the model's
    folder. `at` is ISO 8601, UTC; the order of versions is `number`, never the clock.
    """

    line: str
    number: int
    digest: str
    event: str
    previous: int | None
    path: Path
    run_id: str | None
    verdict_id: str | None
    actor: str
    reason: str | None
    override: str | None
    at: str


def check_name(line: str) -> str:
    """The name itself, if it can name a folder. Raises UserError otherwise."""
    if not _NAME.fullmatch(line):
        raise UserError(
            f"{line!r} can't be the name of a line",
            hint="use letters, digits, dots, dashes and underscores; a letter or digit first",
        )
    return line


def current(folder: Path) -> PromotedVersion | None:
    """The promoted version of the line in `folder`; None where nothing was ever promoted."""
    return _read(folder, folder / POINTER)


def versions(folder: Path) -> list[PromotedVersion]:
    """All versions that were ever promoted, oldest first."""
    latest = current(folder)
    if latest is None:
        return []
    found = (_read(folder, path / POINTER) for path in sorted((folder / "versions").glob("0*")))
    # A promotion that was killed may have written a version without making it current.
    return [version for version in found if version and version.number <= latest.number]


def promote(folder: Path, checkpoint: Path, pointer: dict[str, Any]) -> PromotedVersion:
    """Make a checkpoint the current version; a kill leaves the old version or the new one.

    `pointer` is what the version's `blessed.json` holds. The caller holds the registry's lock.
    """
    label = "mid-rollback" if pointer["event"] == "rolled_back" else "mid-promotion"
    place = folder / "versions" / f"{pointer['version']:06d}"
    # Written by a promotion that was killed before it became current: its number was never used.
    if place.exists():
        shutil.rmtree(place)
    with staged(place, manifest=False) as version:
        # Relative to where the folder will lie, so that a workspace can be moved.
        (version / ALIAS).symlink_to(os.path.relpath(checkpoint, place))
        text = json.dumps(pointer, indent=1, sort_keys=True, ensure_ascii=False)
        (version / POINTER).write_text(text + "\n", encoding="utf-8")
    fault_point(label)
    # The two names lead through `current`, which moves last: that one rename is the promotion.
    for name in (ALIAS, POINTER):
        if not (folder / name).is_symlink():
            replace_symlink(folder / name, f"current/{name}")
    replace_symlink(folder / "current", place.relative_to(folder))
    fault_point(label)
    promoted = current(folder)
    assert promoted is not None
    return promoted


def earlier(
    history: Sequence[PromotedVersion], line: str, to: str | None = None
) -> PromotedVersion:
    """The version that a rollback goes to: the one before, or the last one of digest `to`.

    `history` is oldest first; `to` is a digest or its first 6 digits or more. Raises UserError
    where there is no such version.
    """
    if not history:
        raise UserError(
            f"nothing was ever promoted on {line}",
            hint=f"promote a checkpoint: ratchet promote DIGEST --line {line}",
        )
    if to is None:
        by_number = {version.number: version for version in history}
        previous = history[-1].previous
        if previous is None or previous not in by_number:
            raise UserError(
                f"{line} has no version before {history[-1].digest[:12]}",
                hint="name one with --to DIGEST; `ratchet history` lists them",
            )
        return by_number[previous]
    found = [v for v in history[:-1] if len(to) >= 6 and v.digest.startswith(to)]
    found = [v for v in found if v.digest != history[-1].digest]
    if not found:
        raise UserError(
            f"{to!r} was never promoted on {line}, or is promoted now",
            hint="`ratchet history` lists what was; `ratchet promote` promotes something new",
        )
    if len({version.digest for version in found}) > 1:
        raise UserError(f"{to!r} begins more than one digest", hint="give more digits")
    return found[-1]


def problems(folder: Path) -> list[str]:
    """What is wrong with a line's own files, without reading the checkpoint's bytes."""
    line = folder.name
    try:
        promoted = current(folder)
    except UserError as error:
        return [f"{line}: {error.what} ({error.file})"]
    if promoted is None:
        return [f"{line}: nothing is promoted"] if (folder / "versions").exists() else []
    found = []
    alias = folder / ALIAS
    if not alias.is_dir():
        found.append(f"{line}: `{ALIAS}` leads nowhere")
    elif alias.resolve() != promoted.path.resolve():
        found.append(f"{line}: `{ALIAS}` and `{POINTER}` name different folders")
    if promoted.path.name != promoted.digest:
        found.append(f"{line}: `{POINTER}` names {promoted.digest[:12]} and another path")
    return found


def _read(folder: Path, path: Path) -> PromotedVersion | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return PromotedVersion(
            line=content["line"],
            number=content["version"],
            digest=content["digest"],
            event=content["event"],
            previous=content["previous"],
            path=Path(os.path.normpath(folder / content["path"])),
            run_id=content["run_id"],
            verdict_id=content["verdict_id"],
            actor=content["actor"],
            reason=content["reason"],
            override=content["override"],
            at=content["at"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "the file that names a line's promoted checkpoint can't be read", file=path
        ) from error
