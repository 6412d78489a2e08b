"""Takes from a shared place what the store lacks, each thing whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience
from harness.store.bundle import import_bundle, read_rows
from harness.store.missing import missing
from harness.store.share.index import INDEX, WORKERS, Index, Item, fetch, scratch
from harness.store.share.marks import KINDS, RUNS, Kind, lacking, marks_of, marks_of_runs
from harness.store.store import Store
from harness.store.tables import BY_NAME

_TURN_S = 600.0


def pull(
    store: Store,
    index: Index,
    *,
    empty: bool = False,
    only_new: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, int]:
    """Take what the place has and the store lacks; returns how many things of each kind.

    Every object is checked against its digest before anything of its item is stored. Raises
    UserError for one that is damaged, and where nothing was ever sent there (unless it may be
    `empty`); UnfinishedError where the place can't be reached. Pulled again, it goes on from there.
    With `only_new` the store is asked nothing while nothing new was sent, for who has taken all
    that was there before.
    """
    if not index.refresh() and only_new:
        return {}
    items = list(index.items())
    if not items and not empty:
        raise UserError(
            "nothing was ever sent there",
            file=index.place.name,
            field=f"{INDEX}/",
            hint="send something from another machine: ratchet push PLACE",
        )
    counts: dict[str, int] = {}
    # One at a time in a workspace: what is lacking is asked for first and stored afterwards.
    lock = FairLock(store.workspace.home / "pulling")
    with lock.pass_through(Patience(_TURN_S, say)):
        here = {name: marks_of(store, kind) for name, kind in KINDS.items()}
        here[RUNS] = {k: v for marks in marks_of_runs(store).values() for k, v in marks.items()}
        # Runs first: a page that is open meanwhile shows no verdict on what isn't there yet.
        for item in sorted(items, key=lambda item: item.kind != RUNS):
            names = lacking(item.marks, here.get(item.kind, {}))
            # A later Ratchet may share more kinds of things.
            if not names or item.kind not in here:
                continue
            with scratch(index.cache) as folder:
                _fetch_all(index, item, folder)
                if item.kind == RUNS:
                    say(f"taken: run:{import_bundle(store, folder, merge=True)}")
                else:
                    _take_rows(store, KINDS[item.kind], folder)
            here[item.kind].update(item.marks)
            counts[item.kind] = counts.get(item.kind, 0) + (1 if item.kind == RUNS else len(names))
    return counts


def _fetch_all(index: Index, item: Item, folder: Path) -> None:
    def one(entry: tuple[str, str]) -> None:
        name, digest = entry
        if Path(name).name != name:
            raise UserError("a sending names a file outside its folder", field=name)
        fetch(index.place, digest, folder / name)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, item.files.items()))


def _take_rows(store: Store, kind: Kind, folder: Path) -> None:
    """Add the rows of an item that the store doesn't have, all of them or none."""
    found = {table: read_rows(BY_NAME[table], folder / f"{table}.parquet") for table in kind.tables}
    # Where a mark stands for many rows, each row is asked for by itself.
    by = kind.by if kind.level == "1" else None
    new = {table: missing(store, BY_NAME[table], rows, by) for table, rows in found.items()}
    store.append_together({table: rows for table, rows in new.items() if rows.num_rows})
