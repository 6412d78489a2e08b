"""Reads observations from JSONL and Parquet, and goes on reading as the files grow.

How far a file was read is written down after its observations are durable, never before: killed
in between, it reads some lines again, and the store knows them by their ids. A file is known by
its inode and its first line, so one that was renamed by rotation is read to its end, and one that
was truncated or written anew begins again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from harness.core.errors import UserError
from harness.core.files import fsync
from harness.watch.intake.intake import BLANK, Intake, parse_line
from harness.watch.intake.observation import Refused

BATCH = 1000
"""Lines or rows that are made durable together."""
LINE_LIMIT = 8 * 2**20
"""Bytes of one line: a longer one is refused without being kept in memory."""
POLL_S = 0.5
FORGET_S = 30 * 86_400.0
"""Seconds after which the position of a file that was not seen again is dropped."""

_CHUNK = 2**20
_HEAD = 4096
_LOG = re.compile(r".+\.(?:jsonl|ndjson)(?:[.-]\d+)?")

Tell = Callable[[Path | None, int, Refused], None]
"""Called for each refusal: the file (None for a pipe), the line or row from 1, and why."""


@dataclass
class Position:
    """How far a file was read: bytes and lines, or for Parquet rows."""

    offset: int = 0
    lines: int = 0
    seen_at: float = 0.0


class Follower:
    """One path, read into one intake, resuming where it was."""

    def __init__(self, path: Path, intake: Intake, tell: Tell) -> None:
        if not path.exists():
            raise UserError("there is no such file or folder", file=path, hint="check its spelling")
        self.path = path.absolute()
        self._intake = intake
        self._tell = tell
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:16]
        self._notes = intake.store.workspace.home / "watch" / f"{name}.json"
        self._positions: dict[str, Position] = {}

    def run(self, *, follow: bool, stop: Callable[[], bool] = lambda: False) -> None:
        """Read what is there; with `follow`, go on as more comes, until `stop` says so.

        Raises UserError where another process follows the same path.
        """
        import filelock

        self._notes.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{self._notes}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                "another process reads it into this workspace",
                file=self.path,
                hint="end that one first, or give this one another --home",
            ) from None
        with lock:
            self._positions = self._recall()
            while True:
                moved = sum(self._read(file, follow=follow) for file in self._files())
                if not follow or stop():
                    return
                if not moved:
                    time.sleep(POLL_S)

    def _files(self) -> list[Path]:
        """What is to be read now, the oldest first; a rotated file only if it was begun."""
        if self.path.is_dir():
            found = [
                file
                for file in self.path.iterdir()
                if _LOG.fullmatch(file.name) or file.suffix == ".parquet"
            ]
        else:
            found = [
                file
                for file in self.path.parent.glob(f"{_escaped(self.path.name)}[.-]*")
                if _identity(file) in self._positions
            ]
            found += [self.path] if self.path.exists() else []
        return sorted((file for file in found if file.is_file()), key=_age)

    def _read(self, file: Path, *, follow: bool) -> int:
        """Read one file on from where it was. Returns the number of lines or rows."""
        identity = _identity(file, whole=follow)
        if identity is None:
            return 0
        position = self._positions.setdefault(identity, Position())
        position.seen_at = time.time()
        before = position.lines
        if file.suffix == ".parquet":
            self._read_parquet(file, position, follow=follow)
        else:
            self._read_lines(file, position, follow=follow)
        return position.lines - before

    def _read_lines(self, file: Path, position: Position, *, follow: bool) -> None:
        with contextlib.suppress(FileNotFoundError), file.open("rb") as source:
            if source.seek(0, os.SEEK_END) < position.offset:  # truncated
                position.offset = position.lines = 0
            source.seek(position.offset)
            for lines, end in _batches(source, position.offset, unfinished=not follow):
                # Kept first, noted second: a kill in between has these lines read again, and the
                # store ignores ids that it has. The other way round they would be lost.
                self._keep(file, position, [_value(line) for line in lines])
                position.offset = end
                self._note()

    def _read_parquet(self, file: Path, position: Position, *, follow: bool) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            source = parquet.ParquetFile(file)
        except (pyarrow.ArrowInvalid, OSError):
            if not follow:  # else it may still be being written
                self._refuse(file, 0, Refused("not a Parquet file, or cut off"))
            return
        with source:
            if position.lines >= source.metadata.num_rows:
                return
            row = 0
            for batch in source.iter_batches(BATCH):
                rows = batch.slice(max(0, position.lines - row)).to_pylist()
                row += batch.num_rows
                if rows:
                    self._keep(file, position, [_from_arrow(item) for item in rows])
                    self._note()

    def _keep(self, file: Path, position: Position, values: Sequence[Any]) -> None:
        taken = self._intake.take(values, source="file")
        self._intake.keep([taken])
        for refusal in taken.refused:
            self._tell(file, position.lines + 1 + (refusal.index or 0), refusal)
        position.lines += len(values)

    def _refuse(self, file: Path, line: int, refusal: Refused) -> None:
        self._intake.counts.refuse(refusal)
        self._tell(file, line, refusal)

    def _recall(self) -> dict[str, Position]:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            found = {name: Position(**note) for name, note in notes.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            # The notes are damaged: all is read from the beginning, and what is known is ignored.
            return {}
        return {n: p for n, p in found.items() if time.time() - p.seen_at < FORGET_S}

    def _note(self) -> None:
        """Write the positions; after a crash either the old or the new ones are there."""
        staged = self._notes.with_suffix(".new")
        notes = {name: asdict(position) for name, position in self._positions.items()}
        staged.write_text(json.dumps(notes), encoding="utf-8")
        fsync(staged)
        staged.replace(self._notes)


def read_stream(
    source: IO[bytes], intake: Intake, tell: Tell, stop: Callable[[], bool] = lambda: False
) -> None:
    """Take in lines from a pipe until its end: after each thousand, or when no more waits now.

    A pipe can't be read twice, so there is nothing to resume.
    """
    number = 0
    values: list[Any] = []

    def keep() -> None:
        nonlocal number
        taken = intake.take(values, source="file")
        intake.keep([taken])
        for refusal in taken.refused:
            tell(None, number + 1 + (refusal.index or 0), refusal)
        number += len(values)
        values.clear()

    splitter = _Splitter()
    file = source.fileno()
    while not stop():
        if not select.select([file], [], [], 0.0 if values else POLL_S)[0]:
            if values:
                keep()
            continue
        chunk = os.read(file, _CHUNK)
        values += [_value(line) for line in splitter.split(chunk)]
        if not chunk:
            values += [_value(line) for line in splitter.rest()]
        if len(values) >= BATCH or not chunk:
            keep()
        if not chunk:
            return
    keep()


class _Splitter:
    """Bytes into lines; of a line that is too long only that it was there."""

    def __init__(self) -> None:
        self._held = b""
        self._skipping = False

    def split(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that are whole now; None for one that was too long."""
        *lines, rest = (self._held + chunk).split(b"\n")
        for line in lines:
            too_long = self._skipping or len(line) > LINE_LIMIT
            self._skipping = False
            yield None if too_long else line
        if len(rest) > LINE_LIMIT:
            self._skipping, rest = True, b""
        self._held = rest

    def rest(self) -> Iterator[bytes | None]:
        """What stands after the last line break."""
        if self._skipping:
            yield None
        elif self._held.strip():
            yield self._held


def _batches(
    source: IO[bytes], offset: int, *, unfinished: bool
) -> Iterator[tuple[list[bytes | None], int]]:
    """Lines of a file, at most a chunk's together, with the offset behind them."""
    splitter = _Splitter()
    lines: list[bytes | None] = []
    end = offset
    while chunk := source.read(_CHUNK):
        lines += splitter.split(chunk)
        last = chunk.rfind(b"\n")
        if last >= 0:
            end = source.tell() - len(chunk) + last + 1
            for start in range(0, len(lines), BATCH):
                whole = start + BATCH >= len(lines)
                # Only the last part knows where it ends; the others are read again after a crash.
                yield lines[start : start + BATCH], end if whole else offset
            offset, lines = end, []
    if unfinished:
        # A whole object without a line break is a line; half of one is left for the next time.
        rest = list(splitter.rest())
        if rest and not isinstance(_value(rest[0]), Refused):
            yield rest, source.tell()


def _value(line: bytes | None) -> Any:
    if line is None:
        return Refused(f"the line has more than {LINE_LIMIT:,} bytes")
    return parse_line(line) if line.strip() else BLANK


def _identity(file: Path, *, whole: bool = False) -> str | None:
    """The name by which a file is known, whatever path it has: its inode and its first line.

    A Parquet file is known by inode, size and time. None where there is no first line yet; with
    `whole` also where its line break is still missing, since the name would change with it.
    """
    try:
        state = file.stat()
        if file.suffix == ".parquet":
            return f"{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"
        with file.open("rb") as source:
            first = source.readline(_HEAD)
    except OSError:  # rotated away since it was listed
        return None
    if not first or (whole and len(first) < _HEAD and not first.endswith(b"\n")):
        return None
    return f"{state.st_ino}-{hashlib.sha256(first.rstrip()).hexdigest()[:24]}"


def _age(file: Path) -> tuple[int, str]:
    try:
        return file.stat().st_mtime_ns, file.name
    except OSError:
        return 0, file.name


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _from_arrow(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Parquet in JSON's types. NaN becomes None: many writers mean "missing" by it."""
    return {name: _json_of(value) if name != "observed_at" else value
            for name, value in row.items()}  # fmt: skip


def _json_of(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {str(name): _json_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_of(item) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value
