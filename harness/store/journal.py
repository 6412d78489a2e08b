r"""A process's own append-only file: a line that is fsynced here is acknowledged.

A journal is a file of lines, each `checksum json\n` (CRC-32 of the JSON, eight hexadecimal
digits). The first line says the format's version and who writes; every other line is one append:
`{"table": name, "rows": [...]}`. A line counts only when its newline is there, so a torn tail is
no line. The writer holds a lock (`flock`) on its journal for as long as it lives; that, and not a
PID, shows whether it is alive. Only the writer appends to a journal, and after an error not even
it does: a drain remembers by byte offset how far it has read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.files import fsync
from harness.core.lock import NO_LOCKS, without_locks
from harness.store.tables import VERSION

FORMAT = 1
SUFFIX = ".jsonl"
ROTATE_BYTES = 16 * 2**20
_ABANDONED_S = 3600.0


class Journal:
    """The journal that this process writes. Not safe for threads by itself; `Store` has a lock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.path = folder / f"{self.name}{SUFFIX}"
        self._file = self._create(folder)

    def _create(self, folder: Path) -> int:
        # Under a hidden name until it is locked and has its header: a drain that found it unlocked
        # would take its writer for dead, and delete it.
        unfinished = folder / f".{self.name}.new"
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            _lock(file, folder)
            header = {
                "format": FORMAT,
                "schema": VERSION,
                "journal": self.name,
                "pid": os.getpid(),
                "program": Path(sys.argv[0]).name if sys.argv else "",
                "created_at": datetime.now(UTC).isoformat(),
            }
            self.size = _write(file, _line(header))
            os.fsync(file)
            unfinished.rename(self.path)
            fsync(folder)
        except BaseException:
            os.close(file)
            for leftover in (unfinished, self.path):
                with contextlib.suppress(OSError):
                    leftover.unlink()
            raise
        return file

    @property
    def full(self) -> bool:
        """Whether it has reached `ROTATE_BYTES`, and the next append begins a new one."""
        return self.size >= ROTATE_BYTES

    @property
    def lost(self) -> bool:
        """Whether the file was deleted while this process has it open."""
        return os.fstat(self._file).st_nlink == 0

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one line and fsync it: then its rows are acknowledged.

        Raises OSError where that fails; the journal must then not be used again.
        """
        line = _line({"table": table, "rows": rows})
        try:
            # In halves, so that tests can kill the process between them.
            half = len(line) // 2
            _write(self._file, line[:half])
            fault_point("mid-append")
            _write(self._file, line[half:])
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(line)

    def close(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)  # a forked child may have the file open too
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole line of a journal, from byte `offset` to before byte `end`: rows of one table, or
    a damaged line.
    """

    journal: str
    offset: int
    end: int
    table: str | None
    rows: list[dict[str, Any]]
    rejected: tuple[str, str] | None = None
    """The line and the reason, where the line is damaged."""


def journals(folder: Path) -> list[Path]:
    """The journals of the folder, oldest name first; removes those that were never completed."""
    if not folder.is_dir():
        return []
    for unfinished in folder.glob(".*.new"):
        # If its writer is alive after all, its rename fails and it makes another.
        with contextlib.suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > _ABANDONED_S:
                unfinished.unlink()
    return sorted(folder.glob(f"*{SUFFIX}"))


def read(path: Path, offset: int, stop: int) -> Iterator[Entry]:
    """The whole lines that begin at byte `offset` or later, and before byte `stop`.

    Raises UserError for a journal of a newer format: skipping it would give answers that lack its
    rows.
    """
    with path.open("rb") as file:
        if offset == 0:
            header = file.readline()
            if not header.endswith(b"\n"):
                return
            check_format(path, header)
            offset = len(header)
        file.seek(offset)
        while offset < stop:
            line = file.readline()
            if not line.endswith(b"\n"):
                return
            end = offset + len(line)
            yield _entry(path.stem, offset, end, line)
            offset = end


def check_format(path: Path, header: bytes) -> None:
    """Raise UserError where the header names a format or a schema newer than ours."""
    content = _checked(header) or {}
    for what, ours in (("format", FORMAT), ("schema", VERSION)):
        theirs = content.get(what)
        if isinstance(theirs, int) and theirs > ours:
            raise UserError(
                f"a journal is from a newer Ratchet ({what} {theirs}; this one reads {ours})",
                file=path,
                hint="upgrade Ratchet; its rows are safe where they are",
            )


def owner_is_gone(path: Path) -> bool:
    """Whether the process that wrote this journal has ended: then its lock can be taken."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise without_locks(folder) from error
        raise


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _write(file: int, data: bytes) -> int:
    """Write all of it: `os.write` may take only a part, without an error, on a full disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    return len(data)


def _checked(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    content = json.loads(text)
    return content if isinstance(content, dict) else None


def _entry(journal: str, offset: int, end: int, line: bytes) -> Entry:
    content = _checked(line)
    if content is None or not {"table", "rows"} <= content.keys():
        shown = line.decode("utf-8", "replace")
        return Entry(journal, offset, end, None, [], (shown, "checksum does not match"))
    return Entry(journal, offset, end, content["table"], content["rows"])
