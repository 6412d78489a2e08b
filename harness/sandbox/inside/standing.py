"""Whether a process that stands still waits for something of its own, or for a core."""

from __future__ import annotations

import os
from collections.abc import Iterator

READY = frozenset("RD")
"""States of proc_pid_stat(5) in which a thread goes on as soon as the machine lets it: it is ready
to run, or in the middle of a page or a file that the system fetches."""


class Processes:
    """The host's /proc, held open by a zygote that has left the host's files.

    No program and no judge has it: `confine` closes it before they run anything.
    """

    def __init__(self) -> None:
        try:
            self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self.proc = -1

    def is_ready(self, pid: int) -> bool | None:
        """Whether any thread of this process computes, or would if it had a core.

        None where the system doesn't tell, and for a process that is gone.
        """
        try:
            return any(state in READY for state in self._states(pid))
        except (OSError, AttributeError):  # AttributeError: a system without pidfd_open
            return None

    def _states(self, pid: int) -> Iterator[str]:
        threads = f"{self._number(pid)}/task"
        folder = os.open(threads, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.proc)
        try:
            for thread in os.listdir(folder):
                try:
                    stat = self._read(f"{threads}/{thread}/stat")
                except (FileNotFoundError, ProcessLookupError):  # this thread has ended
                    continue
                # The name before it may hold anything, brackets too.
                yield stat.rpartition(b")")[2].split()[0].decode()
        finally:
            os.close(folder)

    def _number(self, pid: int) -> int:
        """The host's number of the process that is `pid` in this process's namespace."""
        handle = os.pidfd_open(pid)
        try:
            lines = self._read(f"self/fdinfo/{handle}").splitlines()
        finally:
            os.close(handle)
        return next((int(line.split()[1]) for line in lines if line.startswith(b"Pid:")), -1)

    def _read(self, path: str) -> bytes:
        file = os.open(path, os.O_RDONLY, dir_fd=self.proc)
        try:
            return os.read(file, 4096)
        finally:
            os.close(file)
