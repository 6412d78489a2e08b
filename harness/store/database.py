"""Opens, creates and migrates the DuckDB file, while the lock is held."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.files import fsync
from harness.core.lock import without_locks
from harness.store.tables import HOUSEKEEPING, MIGRATIONS, TABLES, VERSION
from harness.store.views import VIEWS

if TYPE_CHECKING:
    import duckdb

# DuckDB's files have a checksum first, and then this.
_MAGIC_AT, _MAGIC = 8, b"DUCK"
_HOLDER = re.compile(r"Conflicting lock is held in .*?\(PID (\d+)\)")


class Outdated(Exception):  # noqa: N818 - a signal to migrate, not an error
    """The file has an older schema and was opened for reading only."""


def connect(
    spill: Path, *, threads: int | None = None, memory_mb: int | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB instance in memory, to which the file is attached for each query.

    Attaching takes 1 ms; a new instance on the file would take 20 or more. What a query can't hold
    in `memory_mb` goes to the folder `spill`, made only then. None leaves a bound to DuckDB: every
    core, and 80% of the memory.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET temp_directory = {_quoted(spill)}")
    if threads is not None:
        connection.execute(f"SET threads = {threads}")
    if memory_mb is not None:
        connection.execute(f"SET memory_limit = '{memory_mb}MB'")
    return connection


def attach(connection: duckdb.DuckDBPyConnection, path: Path, *, write: bool) -> int | None:
    """Open the file under the name `ratchet`, making or migrating it if it is to be written.

    Returns None, or the PID of the foreign process that holds the file (0 if not known).
    """
    import duckdb

    if write and not path.exists():
        create(path)
    _require_ours(path)
    mode = "" if write else " (READ_ONLY)"
    try:
        connection.execute(f"ATTACH {_quoted(path)} AS ratchet{mode}")
    except duckdb.IOException as error:
        said = str(error)
        if "not a valid DuckDB" in said:
            raise _foreign(path, "this file is not a DuckDB database") from error
        if "Could not set lock" not in said:
            raise
        if "No locks available" in said or "not supported" in said:
            raise without_locks(path) from error
        holder = _HOLDER.search(str(error))
        return int(holder[1]) if holder else 0
    try:
        connection.execute("USE ratchet")
        _bring_up_to_date(connection, path, write=write)
    except BaseException:
        detach(connection)
        raise
    return None


def _require_ours(path: Path) -> None:
    """Raise UserError for a file that is another program's: DuckDB would go to the network for what
    could read it.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(_MAGIC_AT + len(_MAGIC))
    except IsADirectoryError:
        raise _foreign(path, "a folder stands in the database's place") from None
    except OSError:
        return  # DuckDB says what is wrong
    if begins[_MAGIC_AT:] != _MAGIC:
        raise _foreign(path, "this file is not a DuckDB database")


def detach(connection: duckdb.DuckDBPyConnection) -> bool:
    """Close the file. Returns whether the connection is still good for the next time."""
    import duckdb

    # What failed halfway, such as a drain, has left its transaction open.
    with contextlib.suppress(duckdb.Error):
        connection.execute("ROLLBACK")
    try:
        connection.execute("USE memory")
        connection.execute("DETACH ratchet")
    except duckdb.Error:
        return False
    return True


def create(path: Path) -> None:
    """Make the file under a hidden name and rename it, so that a half-made one is never opened."""
    import duckdb

    staging = path.with_name(f".{path.name}.new")
    for leftover in (staging, Path(f"{staging}.wal")):
        leftover.unlink(missing_ok=True)
    with duckdb.connect(str(staging)) as connection:
        connection.begin()
        for statement in (*HOUSEKEEPING, *(table.sql for table in TABLES)):
            connection.execute(statement)
        _make_views(connection)
        _record_version(connection, VERSION)
        connection.commit()
        # Into the file itself: the write-ahead log beside it is not renamed along.
        connection.execute("CHECKPOINT")
        fault_point("mid-create")
    fsync(staging)
    staging.rename(path)
    fsync(path.parent)


def migrate(connection: duckdb.DuckDBPyConnection, found: int) -> None:
    """Bring the schema from version `found` to ours in one transaction, then checkpoint."""
    connection.begin()
    for version in range(found + 1, VERSION + 1):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
            fault_point("mid-migration")
        _record_version(connection, version)
    _make_views(connection)
    connection.commit()
    connection.execute("CHECKPOINT ratchet")


def _bring_up_to_date(connection: duckdb.DuckDBPyConnection, path: Path, *, write: bool) -> None:
    import duckdb

    try:
        ((found,),) = connection.execute("SELECT max(version) FROM schema_version").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise _foreign(path, "this DuckDB file is not a store of Ratchet") from error
    if not isinstance(found, int):
        raise _foreign(path, "this DuckDB file is not a store of Ratchet")
    if found > VERSION:
        raise UserError(
            f"the store has a newer schema ({found}; this Ratchet knows {VERSION})",
            file=path,
            hint="upgrade Ratchet",
        )
    if found < VERSION:
        if not write:
            raise Outdated
        migrate(connection, found)


def _foreign(path: Path, what: str) -> UserError:
    return UserError(
        what,
        file=path,
        hint="choose another folder with --home DIR, or move the file away; it is left as it is",
    )


def _make_views(connection: duckdb.DuckDBPyConnection) -> None:
    for name, query in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")


def _record_version(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    connection.execute(
        "INSERT INTO schema_version VALUES (?, now()::TIMESTAMPTZ AT TIME ZONE 'UTC')", [version]
    )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
