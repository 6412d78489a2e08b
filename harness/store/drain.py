"""Moves journal lines into the database: every acknowledged line exactly once."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.workspace import Workspace
from harness.store import journal
from harness.store.schema import SEQ, Table
from harness.store.tables import BY_NAME

if TYPE_CHECKING:
    import duckdb
    import pyarrow

BATCH_BYTES = 32 * 2**20
"""The bytes of a journal that one transaction takes; a drain makes as many as it needs."""


def drain(connection: duckdb.DuckDBPyConnection, folder: Path, seen: dict[str, int]) -> int:
    """Move all whole lines of all journals into the attached database; returns the rows moved.

    `seen` is brought up to date: journal -> the size in bytes up to which it is in.
    """
    moved = 0
    # Sizes are taken once: what is appended from here on is left for the next drain, which would
    # otherwise never end beside a busy writer.
    sizes = {path: path.stat().st_size for path in journal.journals(folder)}
    offsets = _offsets(connection)
    for path, size in sizes.items():
        offset = offsets.get(path.stem, 0)
        while entries := list(journal.read(path, offset, min(offset + BATCH_BYTES, size))):
            moved += _take_in(connection, entries)
            offset = entries[-1].end
        seen[path.stem] = size
    for gone in seen.keys() - {path.stem for path in sizes}:
        del seen[gone]
    return moved


def insert_together(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[Table, pyarrow.Table]]
) -> None:
    """Insert rows that `conform` has checked, in one transaction: all of them or none."""
    connection.begin()
    for table, rows in tables:
        _insert(connection, table, rows)
        fault_point("mid-import")
    connection.commit()


def conform(table: Table, data: pyarrow.Table) -> pyarrow.Table:
    """The data in the table's columns, types and order. Raises UserError where that fails."""
    import pyarrow
    import pyarrow.compute as compute

    unknown = [name for name in data.column_names if table.column(name) is None]
    if unknown:
        raise UserError(
            f"table {table.name} has no column {unknown[0]!r}",
            field=f"{table.name}.{unknown[0]}",
            hint=f"its columns are {', '.join(column.name for column in table.columns)}",
        )
    now = pyarrow.scalar(datetime.now(UTC).replace(tzinfo=None), pyarrow.timestamp("us"))
    arrays = []
    for column, declared in zip(table.columns, table.arrow, strict=True):
        where = f"{table.name}.{column.name}"
        if column.name in data.column_names:
            array = _cast(data.column(column.name), declared.type, where)
        else:
            value = now if column.now else pyarrow.scalar(None, declared.type)
            array = pyarrow.repeat(value, data.num_rows)
        if column.required and array.null_count:
            raise UserError(f"{where} is missing in {array.null_count} rows", field=where)
        if column.type.startswith("DOUBLE"):
            values = compute.list_flatten(array) if column.type.endswith("[]") else array
            bad = compute.is_nan if column.infinite else _not_finite
            if compute.any(bad(values)).as_py():
                raise UserError(
                    f"{where} holds a value that is not finite",
                    field=where,
                    hint="store NULL with outcome `error` or `unscored` and a reason",
                )
        arrays.append(array)
    return pyarrow.Table.from_arrays(arrays, schema=table.arrow)


def remove_finished(workspace: Workspace, seen: dict[str, int]) -> None:
    """Delete journals whose writer is gone and whose every line is in the database file."""
    # While there is a write-ahead log, drained rows may be in it alone.
    if Path(f"{workspace.database}.wal").exists():
        return
    for path in journal.journals(workspace.journal):
        size = seen.get(path.stem)
        # The lock first, then the size: a writer that is gone adds nothing in between.
        if size is not None and journal.owner_is_gone(path) and path.stat().st_size == size:
            path.unlink(missing_ok=True)
            del seen[path.stem]


def reader(declared: str) -> Callable[[Any], Any] | None:
    """What turns a value of a DuckDB type into what `query` returns: times get the zone UTC, JSON
    text becomes objects. None for types that are returned as they are.
    """
    match declared:
        case "JSON":
            return lambda value: json.loads(value) if isinstance(value, str) else value
        case "TIMESTAMP":
            return lambda value: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
    return None


def _offsets(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return dict(connection.execute("SELECT journal, drained_bytes FROM journals").fetchall())


def _take_in(connection: duckdb.DuckDBPyConnection, entries: list[journal.Entry]) -> int:
    """Add the entries of one journal in one transaction; returns the number of rows.

    The offset up to which the journal has been read is committed with the rows, so each line goes
    in exactly once: a kill before the commit leaves neither, and the lines are read again; after
    it there are both, and they never are. A damaged line is kept in `journal_rejects`, and does
    not stop the others.
    """
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    connection.begin()
    for entry in entries:
        fault = entry.rejected or _misfit(entry)
        if fault:
            connection.execute(
                "INSERT INTO journal_rejects VALUES (?, ?, ?, ?)",
                [entry.journal, entry.offset, *fault],
            )
        else:
            assert entry.table is not None
            rows[entry.table].extend(entry.rows)
    for name, found in rows.items():
        table = BY_NAME[name]
        _insert(connection, table, table.to_arrow(found))
        fault_point("mid-drain")
    last = entries[-1]
    connection.execute("INSERT OR REPLACE INTO journals VALUES (?, ?)", [last.journal, last.end])
    connection.commit()
    fault_point("after-commit")
    return sum(len(found) for found in rows.values())


def _misfit(entry: journal.Entry) -> tuple[str, str] | None:
    """(the line, why it can't go in) where an intact line fits no table of this schema.

    Such a line was written by an older version. None where it fits.
    """
    table = BY_NAME.get(entry.table or "")
    known = {column.name for column in table.columns} if table else set()
    if table and all(row.keys() <= known for row in entry.rows):
        return None
    text = json.dumps({"table": entry.table, "rows": entry.rows}, ensure_ascii=False)
    return text, "no such table or column in this schema"


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, rows: pyarrow.Table) -> None:
    import duckdb
    import pyarrow

    first = _next_seq(connection, rows.num_rows)
    numbered = rows.append_column(
        SEQ.name, pyarrow.array(range(first, first + rows.num_rows), pyarrow.int64())
    )
    connection.register("incoming", numbered)
    try:
        for statement in _insertion(table):
            connection.execute(statement)
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.unregister("incoming")


def _insertion(table: Table) -> list[str]:
    """The statements that insert `incoming`: of each key of the table only one row is kept."""
    if not table.key:
        return [f"INSERT INTO {table.name} BY NAME SELECT * FROM incoming"]
    if not table.indexed:
        # There is no index that could ignore a second row of a key (`Table.indexed` says why), so
        # keys that are in the table are left out by a join, which reads one column, and of those
        # that come twice in this batch the first row is taken.
        key = ", ".join(table.key)
        return [
            f"INSERT INTO {table.name} BY NAME SELECT * FROM incoming "
            f"ANTI JOIN {table.name} USING ({key}) "
            f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY seq) = 1"
        ]
    if table.failure is None:
        # The primary key's index finds the second row of a key.
        return [f"INSERT OR IGNORE INTO {table.name} BY NAME SELECT * FROM incoming"]
    # A success takes the place of a failure with its key, whichever came first: stored failures
    # make way for successes, and within the batch successes are inserted first.
    key, failure = ", ".join(table.key), table.failure
    return [
        f"DELETE FROM {table.name} WHERE {failure} IS NOT NULL "
        f"AND ({key}) IN (SELECT ({key}) FROM incoming WHERE {failure} IS NULL)",
        f"INSERT OR IGNORE INTO {table.name} BY NAME "
        f"SELECT * FROM incoming ORDER BY {failure} IS NOT NULL, seq",
    ]


def _next_seq(connection: duckdb.DuckDBPyConnection, count: int) -> int:
    """The first of `count` new numbers of rows; counted on within the rows' own transaction."""
    ((first,),) = connection.execute("SELECT next_seq FROM store_order").fetchall()
    connection.execute("UPDATE store_order SET next_seq = next_seq + ?", [count])
    return int(first)


def _cast(array: pyarrow.ChunkedArray, wanted: pyarrow.DataType, where: str) -> Any:
    import pyarrow

    try:
        return array.cast(wanted)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"{where} takes {wanted}: {error}", field=where) from error


def _not_finite(values: Any) -> Any:
    import pyarrow.compute as compute

    return compute.invert(compute.is_finite(values))
