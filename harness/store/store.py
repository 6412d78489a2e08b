"""`Store`: the one door to everything that is measured.

An append is a line fsynced in this process's journal (`store.journal`), so a writer never waits
for a reader. A reader takes the lock (`harness.core.lock`), and moves
the new lines of all journals into `ratchet.duckdb`, together with how far it read, in one
transaction: a line is in exactly once or not yet. The file is closed in between, and so it stays
an ordinary DuckDB file that any program can open.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience, describe_process
from harness.core.workspace import Workspace
from harness.store import database, drain, journal
from harness.store.schema import Table, utc
from harness.store.tables import BY_NAME

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_CLOSING_TIMEOUT_S = 5.0

_PARENTS: list[object] = []
"""Connections that a forked child inherited: to destroy one would wait for threads that the
child does not have."""


class Store:
    """Appends and queries, safe for threads, for processes, and for being killed.

    `workspace` may be a folder, which is made where it isn't there; by default RATCHET_HOME or
    `./.ratchet`.

    `lock_timeout_s` bounds every wait for other processes, in seconds; `on_wait` is called with
    one sentence that names the process waited for. `append` waits for no other process.

    A program that only displays may ask for less, so that it does not slow others down. With
    `fresh_within_s` a query may miss what others appended in the last so many seconds (never what
    this store appended), so the journals are moved in once for many queries. `threads` and
    `memory_mb` bound what a query takes of the machine; None leaves it to DuckDB.
    """

    def __init__(
        self,
        workspace: Workspace | str | Path | None = None,
        *,
        lock_timeout_s: float = 60.0,
        on_wait: Callable[[str], None] | None = None,
        fresh_within_s: float = 0.0,
        threads: int | None = None,
        memory_mb: int | None = None,
    ) -> None:
        if not isinstance(workspace, Workspace):
            workspace = Workspace.at(workspace).ensure()
        self.workspace = workspace
        self._fresh_within_s = fresh_within_s
        self._bounds = {"threads": threads, "memory_mb": memory_mb}
        self._lock_timeout_s = lock_timeout_s
        self._on_wait = on_wait
        # The file keeps its first name: an earlier version on this workspace locks the same one.
        self._lock = FairLock(workspace.home / "turnstile")
        self._begin_process()

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to a table. When this returns they are durable, all of them.

        Values are str, int, float, bool, None, datetime (with a time zone), lists of them, and
        for JSON columns anything that JSON can hold. A column left out is NULL, or the time now
        where the table says so. Raises UserError for an unknown table or column, a wrong type,
        NaN, a full disk or a folder that can't be written; nothing is then added.
        """
        if not rows:
            return
        declared = _table(table)
        encoded = declared.encode(rows)
        self._check_process()
        with self._journal_lock, self._as_user_error("rows can't be appended"):
            target = self._journal_in_use()
            try:
                target.append(table, encoded)
            except BaseException:  # Ctrl-C as well: nothing may follow half a line
                self._leave_journal()
                raise
            self._appended_at = time.monotonic()

    def append_together(
        self,
        tables: Mapping[str, pyarrow.Table],
        *,
        unless: tuple[str, Sequence[Any]] | None = None,
    ) -> bool:
        """Add many rows of several tables straight into the database, under the lock.

        Columns as each table declares them, in any order; those left out are NULL; JSON columns
        hold JSON text. One transaction: all of it or nothing. Where the query `unless` finds a
        row, nothing is added and False is returned. Raises UserError as `append` does.
        """
        rows = [(_table(name), drain.conform(_table(name), data)) for name, data in tables.items()]
        with self._open(write=True) as connection:
            self._drain(connection)
            if unless is not None and connection.execute(*unless).fetchall():
                return False
            drain.insert_together(connection, rows)
        return True

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a query over everything appended so far, read-only: column name -> value.

        Times come back with the zone UTC, and JSON columns as Python objects. Raises UserError for
        SQL that DuckDB refuses, or when the file can't be opened in time.
        """
        if not sql.strip():
            raise UserError("the query is empty")
        with self._reading() as connection, _refused(sql):
            cursor = connection.execute(sql, _parameters(params))
            described = cursor.description or ()
            fetched = cursor.fetchall()
        # The rest does not need the database, for which others may be waiting.
        names = [str(column[0]) for column in described]
        rows = [dict(zip(names, row, strict=True)) for row in fetched]
        for name, column in dict(zip(names, described, strict=True)).items():
            read = drain.reader(str(column[1]))
            if read is not None:
                for row in rows:
                    row[name] = read(row[name])
        return rows

    def query_arrow(self, sql: str, params: Sequence[Any] = ()) -> pyarrow.Table:
        """As `query`, as an Arrow table: times are UTC without a zone, JSON columns are text."""
        with self._reading() as connection, _refused(sql):
            return connection.sql(sql, params=_parameters(params)).to_arrow_table()

    def drain(self) -> int:
        """Move all appended rows into the database. Returns how many were moved."""
        with self._open(write=True) as connection:
            return self._drain(connection)

    def problems(self) -> list[str]:
        """The journal lines that were damaged, one sentence each; empty where there are none.

        A damaged line is kept in full in the table `journal_rejects`; all others are stored.
        """
        rows = self.query("SELECT journal, byte_offset, reason FROM journal_rejects")
        return [
            f"journal {row['journal']}, byte {row['byte_offset']}: {row['reason']}" for row in rows
        ]

    def close(self) -> None:
        """End this process's journal, and move it into the database unless that is in use.

        Where another process holds the file the rows stay in the journal; the next reader, of
        any process, moves them.
        """
        self._check_process()
        with self._journal_lock:
            wrote = self._journal is not None
            self._leave_journal()
        patience = Patience(min(self._lock_timeout_s, _CLOSING_TIMEOUT_S), self._on_wait)
        try:
            if wrote:
                with self._open(write=True, patience=patience) as connection:
                    self._drain(connection)
        except UserError as error:
            if self._on_wait is not None:
                self._on_wait(f"left in the journal for the next reader: {error.what}")
        finally:
            self._forget_connection()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # One process's own state, made anew in a forked child: neither a lock, nor a database
    # connection, nor a journal may be shared across a fork.

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._journal: journal.Journal | None = None
        self._journal_lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._database_lock = threading.Lock()
        self._drained: dict[str, int] = {}
        self._appended_at = 0.0
        self._whole_at = 0.0
        """When the last drain began (monotonic): what was appended before is in the database."""

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            _PARENTS.append(self._connection)
            self._begin_process()

    def _journal_in_use(self) -> journal.Journal:
        if self._journal is not None and (self._journal.full or self._journal.lost):
            self._leave_journal()
        if self._journal is None:
            self.workspace.ensure()
            self._journal = journal.Journal(self.workspace.journal)
        return self._journal

    def _leave_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # The database.

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        patience = Patience(self._lock_timeout_s, self._on_wait)
        with contextlib.ExitStack() as stack:
            if not self._pending():
                # A file of an older schema is migrated below, where it is opened for writing.
                with contextlib.suppress(database.Outdated):
                    yield stack.enter_context(self._open(write=False, patience=patience))
                    return
            with self._open(write=True, patience=patience) as connection:
                self._drain(connection)
            # Opened again: no query may write, whatever its SQL says.
            yield stack.enter_context(self._open(write=False, patience=patience))

    def _pending(self) -> bool:
        """Whether a query must move journals in first: some hold bytes that it may not miss."""
        if not self.workspace.database.exists():
            return True
        # The last drain is recent enough, and this store has appended nothing since.
        oldest = time.monotonic() - self._fresh_within_s
        if self._whole_at > max(oldest, self._appended_at):
            return False
        for path in journal.journals(self.workspace.journal):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size != self._drained.get(path.stem):
                    return True
        return False

    @contextlib.contextmanager
    def _open(
        self, *, write: bool, patience: Patience | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database, attached, while no other thread or process of Ratchet has it open."""
        self._check_process()
        patience = patience or Patience(self._lock_timeout_s, self._on_wait)
        if write:
            self.workspace.ensure()
        with (
            self._database_lock,
            self._as_user_error("the store can't be opened"),
            self._attached(write, patience) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def _attached(self, write: bool, patience: Patience) -> Iterator[duckdb.DuckDBPyConnection]:
        with contextlib.ExitStack() as stack:
            while True:
                # The lock is given back between attempts: those who wait for it would be told that
                # this process holds the store, rather than the program that does.
                turn = contextlib.ExitStack()
                # Where the workspace can't be written there is no lock to take, and a reader does
                # without.
                if write or os.access(self.workspace.home, os.W_OK):
                    turn.enter_context(self._lock.pass_through(patience))
                with turn:
                    connection = self._connected()
                    holder = database.attach(connection, self.workspace.database, write=write)
                    if holder is None:
                        stack.push(turn.pop_all())
                        break
                patience.wait(describe_process(holder) if holder else "another process")
            try:
                yield connection
            finally:
                if not database.detach(connection):
                    self._forget_connection()
                elif write:
                    drain.remove_finished(self.workspace, self._drained)

    def _drain(self, connection: duckdb.DuckDBPyConnection) -> int:
        with self._as_user_error("the journals can't be moved into the database"):
            began = time.monotonic()
            moved = drain.drain(connection, self.workspace.journal, self._drained)
            self._whole_at = began
            return moved

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            spill = self.workspace.cache / "spill"
            self._connection = database.connect(spill, **self._bounds)
        return self._connection

    def _forget_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _as_user_error(self, what: str) -> Iterator[None]:
        """Turns errors of the system and of DuckDB into a UserError that begins with `what`."""
        import duckdb

        try:
            yield
        except OSError as error:
            raise UserError(
                f"{what}: {error.strerror or error}",
                file=error.filename or self.workspace.home,
                hint="free some space or fix the folder's permissions, then run it again",
            ) from error
        except (duckdb.OperationalError, duckdb.FatalException) as error:
            self._forget_connection()
            raise UserError(
                f"{what}: {str(error).splitlines()[0]}",
                file=self.workspace.database,
                hint="free some space or fix the file; what was acknowledged is still there",
            ) from error


def _table(name: str) -> Table:
    table = BY_NAME.get(name)
    if table is None:
        raise UserError(f"there is no table {name!r}", hint=f"the tables are {', '.join(BY_NAME)}")
    return table


def _parameters(params: Sequence[Any]) -> list[Any]:
    return [
        utc(value) if isinstance(value, datetime) and value.tzinfo is not None else value
        for value in params
    ]


@contextlib.contextmanager
def _refused(sql: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        raise UserError(
            f"the query was refused: {error}", field=" ".join(sql.split())[:80]
        ) from error
