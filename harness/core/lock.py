"""A fair lock between processes, held while the DuckDB file is open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.core.errors import UserError

NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""What a file system without locks answers."""

_FIRST_WORD_S = 0.5
_NEXT_WORD_S = 2.0


class Patience:
    """A bounded wait that reports whom it waits for: after half a second, then every two seconds.

    `timeout_s` is the longest wait, in seconds; `on_wait` is called with a sentence for the user.
    """

    def __init__(self, timeout_s: float, on_wait: Callable[[str], None] | None) -> None:
        self._began = time.monotonic()
        self._timeout_s = timeout_s
        self._on_wait = on_wait
        self._next_word = _FIRST_WORD_S
        self._pause_s = 0.001

    def wait(self, holder: str) -> None:
        """Sleep a little. Raises UserError naming the holder when the time is up."""
        waited = time.monotonic() - self._began
        if waited >= self._timeout_s:
            raise UserError(
                f"the store is held by {holder}; waited {waited:.0f} s",
                hint="end that program or let it finish; rows appended meanwhile are safe",
            )
        if self._on_wait is not None and waited >= self._next_word:
            self._on_wait(
                f"waiting for the store, held by {holder}: "
                f"{waited:.0f} s of at most {self._timeout_s:.0f} s"
            )
            self._next_word += _NEXT_WORD_S
        left = max(0.0, self._timeout_s - waited)
        time.sleep(min(left, self._pause_s * random.uniform(0.5, 1.0)))
        self._pause_s = min(self._pause_s * 1.5, 0.02)


class FairLock:
    """An exclusive lock on a file, held only while the database is open.

    A process that waits is served before one that has just let go and asks again at once, as a
    server with many pages does. The kernel frees a lock when its holder dies, so there is nothing
    to clean up after a kill.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.next")

    @contextlib.contextmanager
    def pass_through(self, patience: Patience) -> Iterator[None]:
        """Hold the lock. Raises UserError when it can't be had in time; OSError if not writable."""
        with contextlib.ExitStack() as turn:
            # Fairness takes two locks. The process in front holds `next` until it has the lock
            # itself; one that has just let go must get `next` first, and so comes after it.
            with self._locked(self._next, patience):
                file = turn.enter_context(self._locked(self._path, patience))
            with contextlib.suppress(OSError):  # a full disk must not stop a reader
                # For the message of those who wait; padded, to cover a longer number before it.
                os.pwrite(file, b"%-20d" % os.getpid(), 0)
            yield

    @contextlib.contextmanager
    def _locked(self, path: Path, patience: Patience) -> Iterator[int]:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _try_lock(file, path):
                patience.wait(self._holder())
            yield file
        finally:
            # By name: a child forked meanwhile has the file open too, and would keep the lock.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def _holder(self) -> str:
        try:
            return describe_process(int(self._path.read_bytes()))
        except (OSError, ValueError):
            return "another process"


def _try_lock(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise without_locks(path) from error
        raise
    return True


def without_locks(path: Path) -> UserError:
    """What to say of a file system that knows no locks, as some network mounts don't."""
    return UserError(
        "the file system has no locks, so two programs could write the store at once",
        file=path,
        hint="keep the workspace on a local disk: --home DIR, or RATCHET_HOME (or mount the share "
        "with locks: NFS without `nolock`, SMB without `nobrl`)",
    )


def describe_process(pid: int) -> str:
    """`PID 123 (its command line)`, or the PID alone where the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"PID {pid}"
    command = b" ".join(words).decode("utf-8", "replace").strip()
    return f"PID {pid} ({command[:80]})" if command else f"PID {pid}"
