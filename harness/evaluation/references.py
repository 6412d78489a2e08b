"""One way to name models and runs: a path or hub id, `run:ID`, `line:NAME`, `bundle:DIR`, and
`openai:URL#MODEL` for one that is served.
"""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UserError
from harness.core.types import Run
from harness.store import runs
from harness.store.store import Store


def find_named_run(name: str, store: Store) -> Run | None:
    """The run that `run:ID` (or `run:NAME`, or NAME alone, of an imported one) or `bundle:DIR`
    names; None for the name of a model. Raises UserError where a name alone is a folder, too.
    """
    kind, _, rest = name.partition(":")
    if kind == "run":
        return runs.require_run(store, rest)
    if kind == "bundle":
        from harness.store.bundle import import_bundle

        return runs.require_run(store, import_bundle(store, Path(rest)))
    # With a slash or a colon it is a path, a model's id or a server, whatever was imported.
    if "/" in name or ":" in name:
        return None
    imported = runs.imported_as(store, name)
    if imported is not None and Path(name).exists():
        raise UserError(
            f"{name!r} is a file or folder here, and a run was imported under that name",
            hint=f"say which: ./{name} or run:{imported.id}",
        )
    return imported


def suite_path(run: Run, store: Store) -> Path | None:
    """The path of the suite that a run was scored on, as stored; None where none is stored."""
    rows = store.query("SELECT suite_path FROM runs WHERE run_id = ?", [run.id])
    place = rows[0]["suite_path"] if rows else None
    return Path(place) if place else None


def suite_of(run: Run, store: Store) -> Path:
    """The suite file that a run was scored on. Raises UserError where it is gone."""
    path = suite_path(run, store)
    if path is None:
        what = f"run {run.id} was imported without the path of its suite"
        raise UserError(what, hint="name it with --suite FILE")
    if not path.is_file():
        what = f"the suite file of run {run.id} is no longer there"
        raise UserError(what, file=path, hint="name it with --suite FILE")
    return path
