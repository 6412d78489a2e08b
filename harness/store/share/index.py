"""The index of a shared place: who has sent what, in files that are written once.

    objects/ab/ab12…           any file, named by the SHA-256 of its bytes
    index/box-5f3a…/00000004-1c9e….json   one sending: marks and the objects that hold them

Each workspace writes under a name of its own and nothing is ever changed, so that two who send at
once never meet. A sending is written after its objects: what it names is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.store.share.marks import Marks
from harness.store.share.place import Place
from harness.store.store import Store

FORMAT = 1
OBJECTS, INDEX = "objects", "index"
WORKERS = 8
"""Files on their way at once: most of a small file's time is waiting."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was sent: a run's bundle, or rows of one kind; file name -> its digest."""

    kind: str
    marks: Marks
    files: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "marks": dict(self.marks), "files": dict(self.files)}


class Index:
    """All sendings of a place. Those that were read once are kept in the workspace's cache."""

    def __init__(self, place: Place, store: Store) -> None:
        self.place = place
        self.mine = sender(store)
        where = hashlib.sha256(place.name.encode()).hexdigest()[:16]
        self.cache = store.workspace.cache / "share" / where
        self.cache.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, tuple[Item, ...]] = {}

    def refresh(self) -> bool:
        """Read what was sent since the last time; returns whether anything was."""
        names = [name for name in self.place.names(INDEX) if name.endswith(".json")]
        new = [name for name in names if name not in self._known]
        with ThreadPoolExecutor(WORKERS) as pool:
            self._known.update(zip(new, pool.map(self._read, new), strict=True))
        return bool(new)

    def items(self) -> Iterator[Item]:
        for name in sorted(self._known):
            yield from self._known[name]

    def levels(self) -> dict[str, dict[str, int]]:
        """Kind -> the marks that the place has, each at its highest level."""
        found: dict[str, dict[str, int]] = {}
        for item in self.items():
            levels = found.setdefault(item.kind, {})
            for name, level in item.marks.items():
                levels[name] = max(level, levels.get(name, level))
        return found

    def add(self, items: Sequence[Item], at: str) -> None:
        """Write a sending of ours; its objects must be there."""
        content = {"format": FORMAT, "at": at, "items": [item.to_dict() for item in items]}
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        ours = [name for name in self._known if name.startswith(f"{INDEX}/{self.mine}/")]
        name = f"{INDEX}/{self.mine}/{len(ours):08d}-{digest}.json"
        with scratch(self.cache) as folder:
            file = folder / "sending.json"
            file.write_text(text, encoding="utf-8")
            self.place.put(name, file)
        self._known[name] = tuple(items)

    def _read(self, name: str) -> tuple[Item, ...]:
        kept = self.cache / name
        if not kept.exists():
            with scratch(self.cache) as folder:
                self.place.get(name, folder / "sending.json")
                found = _parsed(folder / "sending.json", name)
                kept.parent.mkdir(parents=True, exist_ok=True)
                (folder / "sending.json").replace(kept)
            return found
        return _parsed(kept, name)


def sender(store: Store) -> str:
    """The name under which a workspace sends: the machine's, and a digest of what is this database
    at this place. A copy of the workspace elsewhere is another sender.
    """
    ((created,),) = (
        tuple(row.values())
        for row in store.query("SELECT min(applied_at)::VARCHAR AS at FROM schema_version")
    )
    host = platform.node()
    whole = f"{created}|{host}|{store.workspace.home}"
    short = re.sub(r"[^A-Za-z0-9-]", "-", host)[:40] or "machine"
    return f"{short}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def object_name(digest: str) -> str:
    return f"{OBJECTS}/{digest[:2]}/{digest}"


def fetch(place: Place, digest: str, file: Path) -> None:
    """Copy an object into `file`. Raises UserError where it is not what its name says."""
    place.get(object_name(digest), file)
    found = sha256_of_file(file)
    if found != digest:
        raise UserError(
            "an object is not what its name says: it was damaged or changed there",
            file=f"{place.name}/{object_name(digest)}",
            hint="delete it there and push again from a machine that has it; nothing was taken",
        )


@contextlib.contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """An empty folder in the cache, removed at the end."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as folder:
        yield Path(folder)


def _parsed(file: Path, name: str) -> tuple[Item, ...]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise UserError(
                f"a newer Ratchet sent this (format {content['format']}; this one reads {FORMAT})",
                file=name,
                hint="upgrade Ratchet",
            )
        return tuple(
            Item(str(item["kind"]), dict(item["marks"]), dict(item["files"]))
            for item in content["items"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "a sending in the shared place can't be read: it was damaged or changed there",
            file=name,
            hint="delete it there; the next push of its sender sends anew what it named",
        ) from error
