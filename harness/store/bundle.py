"""A run as files (`run.json` and Parquet): exported, imported, committed as an anchor.

    run.json               the run, its events, and a summary; sorted keys, for reading and diffs
    scores.parquet         its current scores
    responses.parquet      the responses it stands on
    run_responses.parquet  which response belongs to which sample of the run
    samples.parquet        the samples it was scored on

`run.json` names the digest of each other file and of itself, so a bundle that is torn, or
changed without care, is refused. Against somebody who changes it *with* care only review and
signed commits help.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.files import fsync, sha256_of_file, staged
from harness.core.protocol import tasks_of
from harness.store.missing import missing
from harness.store.schema import Table, utc
from harness.store.store import Store
from harness.store.tables import BY_NAME

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
RUN = "run.json"

# Ordered as the store took the rows in, so that a second export writes the same bytes.
_QUERIES: Mapping[str, str] = {
    "scores": "SELECT * EXCLUDE seq FROM current_scores WHERE run_id = ? ORDER BY seq",
    "run_responses": "SELECT * EXCLUDE seq FROM run_responses WHERE run_id = ? ORDER BY seq",
    "responses": "SELECT * EXCLUDE seq FROM responses WHERE key IN "
    "(SELECT key FROM run_responses WHERE run_id = ?) ORDER BY key",
    "samples": "SELECT * EXCLUDE seq FROM samples WHERE list_contains(?, task_digest) AND "
    "(task, sample_id) IN (SELECT (task, sample_id) FROM scores WHERE run_id = ?) "
    "ORDER BY task, task_digest, sample_id",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and found intact. Its tables have the store's columns without `seq`.

    `run`, `events` and `summary` are as `run.json` has them.
    """

    run: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    summary: tuple[Mapping[str, Any], ...]
    scores: pyarrow.Table
    responses: pyarrow.Table
    run_responses: pyarrow.Table
    samples: pyarrow.Table

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])


def export_run(store: Store, run_id: str, folder: Path) -> Path:
    """Write a run as a bundle into `folder`, and return it. A bundle there is replaced as a whole.

    Raises UserError where there is no such run, or `folder` holds something other than a bundle.
    """
    import pyarrow.parquet as parquet

    rows = store.query("SELECT * EXCLUDE seq FROM runs WHERE run_id = ?", [run_id])
    if not rows:
        raise UserError(f"there is no run {run_id!r} here", hint="`ratchet runs` lists them")
    events = store.query(
        "SELECT * EXCLUDE (seq, run_id) FROM run_events WHERE run_id = ? ORDER BY seq", [run_id]
    )
    summary = store.query(
        "SELECT * EXCLUDE run_id FROM run_summary WHERE run_id = ? ORDER BY task, metric", [run_id]
    )
    _require_replaceable(folder)
    # Bundles are committed and shared: they name no path of the machine that made them.
    rows[0]["suite_path"] = _portable(rows[0]["suite_path"])
    tasks = _task_digests(rows[0]["protocol"] or {})
    replaced = None
    try:
        with staged(folder, manifest=False) as staging:
            files = {}
            for name, query in _QUERIES.items():
                params = [tasks, run_id] if name == "samples" else [run_id]
                data = _in_order(BY_NAME[name], store.query_arrow(query, params))
                path = staging / f"{name}.parquet"
                parquet.write_table(data, path, compression="zstd")
                files[path.name] = {"rows": data.num_rows, "sha256": sha256_of_file(path)}
            content = {
                "format": FORMAT,
                "run": rows[0],
                "events": events,
                "summary": summary,
                "files": files,
            }
            (staging / RUN).write_text(sealed(content), encoding="utf-8")
            # A folder can't be renamed over another: the old bundle steps aside just before the
            # new one takes its place, and comes back if that fails.
            replaced = _make_way(folder)
    except BaseException:
        if replaced is not None and not folder.exists():
            replaced.rename(folder)
        raise
    if replaced is not None:
        shutil.rmtree(replaced)
    return folder


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle; needs no store. Raises UserError naming a file that is torn or changed."""
    content = _read_run(folder)
    tables = {name: _read_table(folder, name, content["files"]) for name in _QUERIES}
    return Bundle(
        run=content["run"],
        events=tuple(content["events"]),
        summary=tuple(content["summary"]),
        **tables,
    )


def import_bundle(store: Store, folder: Path, *, merge: bool = False) -> str:
    """Add a bundle to the store, all of it or nothing, and return its run's id.

    Importing it twice changes nothing. With `merge`, what a run that is here already gained
    elsewhere (a rescore, answers after an interruption) is added to it. Raises UserError for a
    bundle that is not intact, and where the store has another run of the same id.
    """
    bundle = read_bundle(folder)
    known = store.query("SELECT * EXCLUDE seq FROM runs WHERE run_id = ?", [bundle.run_id])
    if known and not _same_run(json.loads(_text(known[0])), bundle.run):
        raise UserError(
            f"the store has another run {bundle.run_id}",
            file=folder / RUN,
            hint="use another --home",
        )
    if not known:
        runs = BY_NAME["runs"]
        store.append_together(
            {**_rows_of(bundle), "runs": runs.to_arrow(runs.encode([bundle.run]))},
            # Asked again under the lock: another process may import the same bundle meanwhile.
            unless=("SELECT 1 FROM runs WHERE run_id = ?", [bundle.run_id]),
        )
    elif merge:
        _merge(store, bundle)
    return bundle.run_id


def _rows_of(bundle: Bundle) -> dict[str, pyarrow.Table]:
    """Table -> the rows of everything in a bundle but the run itself."""
    events = BY_NAME["run_events"]
    happened = events.encode({"run_id": bundle.run_id, **event} for event in bundle.events)
    return {
        "samples": bundle.samples,
        "responses": bundle.responses,
        "run_responses": bundle.run_responses,
        "scores": bundle.scores,
        "run_events": events.to_arrow(happened),
    }


def _merge(store: Store, bundle: Bundle) -> None:
    """Add the rows that the run doesn't have here; the keys of samples and responses decide."""
    new = _rows_of(bundle)
    # An event's detail is JSON, which two stores may write differently.
    for name, key in (
        ("run_responses", None),
        ("scores", None),
        ("run_events", "event || '@' || happened_at"),
    ):
        new[name] = missing(
            store, BY_NAME[name], new[name], key, where="run_id = ?", params=[bundle.run_id]
        )
    store.append_together({name: rows for name, rows in new.items() if rows.num_rows})


def _portable(path: str | None) -> str | None:
    """The suite's path relative to the working folder; its name alone where it lies elsewhere."""
    if path is None:
        return None
    here = Path.cwd()
    place = Path(path)
    return str(place.relative_to(here)) if place.is_relative_to(here) else place.name


def _same_run(known: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**known, "suite_path": None} == {**other, "suite_path": None}


def _task_digests(protocol: Mapping[str, Any]) -> list[str]:
    """The digests under which the samples of a run's tasks are kept."""
    return [task.digest for task in tasks_of(protocol).values()]


def run_id_of(folder: Path) -> str:
    """The id of a bundle's run, from `run.json` alone. Raises UserError as `read_bundle` does."""
    return str(_read_run(folder)["run"]["run_id"])


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, seal = content["format"], content["sha256"]
    except FileNotFoundError as error:
        raise UserError(
            "there is no bundle here", file=path, hint="`ratchet export` makes one"
        ) from error
    except NotADirectoryError as error:
        raise UserError(
            "a bundle is a folder, and this is a file",
            file=folder,
            hint="name the folder, or the kind of the file: ratchet import KIND FILE",
        ) from error
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise _refused(path, "can't be read") from error
    if version != FORMAT:
        raise UserError(
            f"the bundle has format {version}; this Ratchet reads {FORMAT}",
            file=path,
            hint="upgrade Ratchet",
        )
    if _seal(content) != seal:
        raise _refused(path, "was changed after it was written")
    missing = {"run", "events", "summary", "files"} - content.keys()
    if missing or "run_id" not in content["run"]:
        raise _refused(path, "lacks a part")
    return dict(content)


def _read_table(folder: Path, name: str, files: Mapping[str, Any]) -> pyarrow.Table:
    path = folder / f"{name}.parquet"
    expected = files.get(path.name)
    if not path.is_file() or expected is None:
        raise _refused(path, "is missing")
    if sha256_of_file(path) != expected["sha256"]:
        raise _refused(path, "was torn, or changed after it was written")
    return read_rows(BY_NAME[name], path)


def read_rows(table: Table, path: Path) -> pyarrow.Table:
    """Rows of a table from Parquet, in the table's columns. Raises UserError for other columns."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return _in_order(table, parquet.read_table(path))
    except (pyarrow.ArrowException, KeyError, ValueError, OSError) as error:
        raise _refused(path, "can't be read") from error


def _in_order(table: Table, data: pyarrow.Table) -> pyarrow.Table:
    """The data in the table's order: a column that was added later stands last in a file that was
    migrated, and a bundle of before has none of it. Raises what pyarrow does for other columns.
    """
    import pyarrow

    for column in table.columns:
        if column.name not in data.column_names and not column.required:
            data = data.append_column(column.name, pyarrow.nulls(data.num_rows))
    if data.num_columns != len(table.columns):
        raise ValueError(f"other columns than those of {table.name}")
    return data.select([column.name for column in table.columns]).cast(table.arrow)


def _require_replaceable(folder: Path) -> None:
    """Raise UserError where `folder` holds anything but a bundle: it is somebody's work."""
    own = {RUN, *(f"{name}.parquet" for name in _QUERIES)}
    foreign = [p.name for p in folder.iterdir() if p.name not in own] if folder.is_dir() else []
    if foreign or folder.is_file():
        raise UserError(
            f"{folder.name} is not a run bundle: it holds "
            f"{', '.join(sorted(foreign)[:3]) or 'a file'}",
            file=folder,
            hint="choose a new folder",
        )


def _make_way(folder: Path) -> Path | None:
    """Rename the folder that is to be replaced; returns its new place, None if there is none."""
    if not folder.exists():
        return None
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    folder.rename(aside)
    fsync(folder.parent)
    return aside


def sealed(content: Mapping[str, Any]) -> str:
    """The text of `run.json`: the content, and the digest over it by which damage is found."""
    plain = json.loads(_text(content))
    return _text({**plain, "sha256": _seal(plain)}) + "\n"


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 in hex over everything in `run.json` but the entry that holds it."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(_text(rest).encode()).hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    def moment(value: Any) -> str:
        if isinstance(value, datetime):
            return utc(value).isoformat() + "+00:00"
        raise TypeError(type(value).__name__)

    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, default=moment)


def _refused(path: Path, what: str) -> UserError:
    return UserError(
        f"the bundle is refused: {path.name} {what}",
        file=path,
        hint="export it again, or take it from version control",
    )
