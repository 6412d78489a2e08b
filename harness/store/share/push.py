"""Sends what a shared place doesn't have: objects first, then the sending that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.core.fault_points import fault_point
from harness.core.files import sha256_of_file
from harness.store.bundle import export_run
from harness.store.share.index import WORKERS, Index, Item, object_name, scratch
from harness.store.share.marks import (
    KINDS,
    RUNS,
    Kind,
    lacking,
    marks_of,
    marks_of_runs,
    rows_of,
)
from harness.store.share.place import Place
from harness.store.store import Store

_SENDING_BYTES = 64 * 2**20
"""After so many bytes a sending is written: a push that is killed has sent the ones before."""


@dataclass(slots=True)
class Pushed:
    """What a push sent: things by kind, and the bytes of the objects that were not there yet."""

    counts: dict[str, int]
    sent_bytes: int = 0


def push(
    store: Store,
    place: Place,
    *,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Pushed:
    """Send what the place lacks: runs that ended, verdicts, calibrations, lines, trainings, notes.

    `only` names runs: then these and the verdicts about them. Sent twice, nothing is sent the
    second time. Raises UserError where the place can't be written, UnfinishedError where it can't
    be reached; the same call goes on from there.
    """
    index = Index(place, store)
    index.refresh()
    there = index.levels()
    pushed, waiting, bytes_waiting = Pushed({}), list[Item](), 0
    with scratch(index.cache) as folder:
        for item, files in _lacking(store, there, only, folder, say):
            sent = _send(place, files)
            pushed.sent_bytes += sent
            bytes_waiting += sent
            number = 1 if item.kind == RUNS else len(item.marks)
            pushed.counts[item.kind] = pushed.counts.get(item.kind, 0) + number
            waiting.append(item)
            if bytes_waiting >= _SENDING_BYTES:
                index.add(waiting, _now())
                waiting, bytes_waiting = [], 0
        if waiting:
            index.add(waiting, _now())
    return pushed


Files = Mapping[str, Path]


def _lacking(
    store: Store,
    there: Mapping[str, Mapping[str, int]],
    only: Sequence[str],
    folder: Path,
    say: Callable[[str], None],
) -> Iterator[tuple[Item, Files]]:
    """What the place lacks, with its files: a run at a time, then all rows of a kind together.

    Runs come first: who reads a verdict wants to see what it was about.
    """
    runs = marks_of_runs(store)
    for run_id in only or runs:
        marks = runs.get(run_id, {})
        if lacking(marks, there.get(RUNS, {})):
            say(f"sending run:{run_id}")
            bundle = export_run(store, run_id, folder / run_id)
            yield _item(RUNS, marks, bundle)
    for kind in KINDS.values():
        marks = marks_of(store, kind)
        names = lacking(marks, there.get(kind.name, {}))
        if only:
            names = _about(store, kind, names, only)
        if names:
            bundle = _write_rows(store, kind, names, folder / kind.name)
            yield _item(kind.name, {name: marks[name] for name in names}, bundle)


def _about(store: Store, kind: Kind, names: Sequence[str], runs: Sequence[str]) -> list[str]:
    if kind.name != "verdicts":
        return []
    about = store.query(
        "SELECT verdict_id FROM verdicts WHERE list_contains(?, candidate_run)", [list(runs)]
    )
    return sorted(set(names) & {row["verdict_id"] for row in about})


def _write_rows(store: Store, kind: Kind, names: Sequence[str], folder: Path) -> Path:
    import pyarrow.parquet as parquet

    folder.mkdir()
    for table, rows in rows_of(store, kind, names).items():
        parquet.write_table(rows, folder / f"{table}.parquet", compression="zstd")
    return folder


def _item(kind: str, marks: Mapping[str, int], folder: Path) -> tuple[Item, Files]:
    files = {path.name: path for path in sorted(folder.iterdir())}
    return Item(kind, marks, {name: sha256_of_file(path) for name, path in files.items()}), files


def _send(place: Place, files: Files) -> int:
    """Put the files there that are not there yet, and delete them here; returns their bytes."""

    def one(file: Path) -> int:
        name, size = object_name(sha256_of_file(file)), file.stat().st_size
        if place.has(name):
            size = 0
        else:
            place.put(name, file)
            fault_point("mid-push")
        file.unlink()
        return size

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(one, files.values()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
