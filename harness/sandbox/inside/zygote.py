"""A worker's root process: sets up the walls once, then forks a fresh process for each program.

It has one thread, keeps the standard library warm, and tells its parent one line per job.
"""

from __future__ import annotations

import base64
import gc
import importlib
import os
import random
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import candidate, judge, namespaces, syscalls
from .channel import Lost, receive, send
from .confine import Walls, confine
from .watch import Judge, Measured, Watch

WARM = (
    *("abc", "array", "ast", "bisect", "collections", "contextlib", "copy", "csv", "dataclasses"),
    *("datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io"),
    *("itertools", "json", "locale", "math", "numbers", "operator", "queue", "random", "re"),
    *("statistics", "string", "struct", "textwrap", "threading", "time", "traceback", "types"),
    *("typing", "unicodedata", "encodings.idna", "encodings.latin_1"),
)
"""Loaded before the first fork, so that no program pays for its imports."""

JUDGE_MEMORY = 2 * 1024**3
JUDGE_JOBS = 2000
"""A judge is replaced after so many programs, whatever it looks like."""

CHANNEL_FD = 3
OUTPUT_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker was given, and what it made of it."""

    control: socket.socket
    tier: str
    readable: tuple[str, ...]
    program: bytes
    user: int | None
    bare: int
    own: int


def main(control_fd: int) -> None:
    """Take the order, build the room, say so, and serve until the parent goes."""
    if control_fd != CHANNEL_FD:
        os.dup2(control_fd, CHANNEL_FD)
        os.close(control_fd)
    control = socket.socket(fileno=CHANNEL_FD)
    order = receive(control)
    for name in WARM:
        importlib.import_module(name)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        room = _furnish(control, order)
        worker = Worker(room)
    except OSError as error:
        send(control, {"failed": str(error)})
        return
    send(control, {"ready": room.tier})
    gc.collect()
    gc.freeze()
    try:
        worker.serve()
    except Lost:
        os._exit(0)


def _furnish(control: socket.socket, order: dict[str, Any]) -> Room:
    bare = _address_space()
    user = None
    if order["tier"] == "A":
        user = namespaces.enter(order["stage"], order["shown"])
        _become_first()
        namespaces.fresh_temporary()
    os.chdir("/")
    return Room(
        control,
        order["tier"],
        tuple(order["readable"]),
        base64.b64decode(order["filter"]),
        user,
        bare,
        os.pidfd_open(os.getpid()) if order["tier"] == "A" else -1,
    )


def _become_first() -> None:
    """Go on as the first process of the new process namespace; the old one only waits."""
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        os._exit(0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)


def _address_space() -> int:
    """Bytes of address space of this interpreter before any program; 0 where unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Worker:
    """Serves jobs one at a time: a fresh process for the program, one judge for many."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.ruleset = self._rules()
        self.judge = self._new_judge()

    def serve(self) -> None:
        while True:
            job = receive(self.room.control)
            send(self.room.control, self._run(job))
            self._clean()

    def _run(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["stdin"] is not None:
            return self._stdio(job)
        if job["mode"] != "cooperative":
            result = self._split(job)
            if result["label"] != judge.UNSPLITTABLE or job["mode"] == "split":
                return result
            self._clean()
        return self._together(job)

    def _split(self, job: dict[str, Any]) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        output = os.memfd_create("output")

        def play() -> None:
            _dress(output, theirs)
            self._confine(job)
            candidate.serve(
                socket.socket(fileno=CHANNEL_FD), job["program"], job["setup"], job["entry_point"]
            )

        watch = Watch(self.spawn(play), job, self.room.control)
        theirs.close()
        if not self.judge.alive or self.judge.jobs >= JUDGE_JOBS:
            self.judge.kill()
            self.judge = self._new_judge()
        self.judge.take(ours, [job[key] for key in ("tests", "setup", "entry_point", "calls")])
        ours.close()
        measured = watch.until_judged(self.judge)
        return self._report(measured, output, "split")

    def _together(self, job: dict[str, Any]) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        output = os.memfd_create("output")
        nonce = os.urandom(16).hex()

        def play() -> None:
            _dress(output, theirs)
            self._confine(job)
            keys = ("program", "setup", "entry_point", "tests", "calls")
            answer = candidate.together(*(job[key] for key in keys))
            send(socket.socket(fileno=CHANNEL_FD), [nonce, *answer])

        watch = Watch(self.spawn(play), job, self.room.control)
        theirs.close()
        measured = watch.until_told(ours, nonce)
        ours.close()
        return self._report(measured, output, "cooperative")

    def _stdio(self, job: dict[str, Any]) -> dict[str, Any]:
        output, errors = os.memfd_create("output"), os.memfd_create("errors")
        given = os.memfd_create("input")
        with open(os.dup(given), "wb") as file:
            file.write(job["stdin"].encode("utf-8", "replace"))
        os.lseek(given, 0, os.SEEK_SET)

        def play() -> None:
            os.dup2(given, 0)
            _dress(output, None, errors)
            self._confine(job)
            status = candidate.as_main(job["program"])
            import threading

            threading._shutdown()  # type: ignore[attr-defined]
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

        watch = Watch(self.spawn(play), job, self.room.control)
        os.close(given)
        measured = watch.until_gone()
        said = os.pread(output, job["output_bytes"], 0).decode("utf-8", "replace")
        measured = measured.compared(said, job["expected"])
        tail = errors if measured.label != "pass" and os.fstat(errors).st_size else output
        other = output if tail is errors else errors
        os.close(other)
        return self._report(measured, tail, "split")

    def _report(self, measured: Measured, output: int, verdict: str) -> dict[str, Any]:
        size = os.fstat(output).st_size
        tail = os.pread(output, OUTPUT_TAIL, max(0, size - OUTPUT_TAIL))
        os.close(output)
        measured = measured.flooded(size)
        return {
            "label": measured.label,
            "detail": measured.detail,
            "cpu_s": measured.cpu_s,
            "wall_s": measured.wall_s,
            "peak_memory_bytes": measured.peak,
            "output": tail.decode("utf-8", "replace"),
            "verdict": verdict,
        }

    def _confine(self, job: dict[str, Any]) -> None:
        confine(
            self._walls(),
            memory=self.room.bare + job["memory_bytes"],
            cpu_s=job["cpu_s"],
            file_bytes=job["output_bytes"],
        )

    def _walls(self) -> Walls:
        return Walls(self.room.tier, self.room.user, self.room.program, self.ruleset)

    def _rules(self) -> int | None:
        if self.room.tier == "C":
            return None
        writable = (namespaces.WRITABLE,) if self.room.tier == "A" else ()
        return syscalls.landlock_ruleset((*self.room.readable, *namespaces.DEVICES), writable)

    def _new_judge(self) -> Judge:
        ours, theirs = socket.socketpair()

        def play() -> None:
            os.dup2(theirs.fileno(), CHANNEL_FD)
            confine(
                self._walls(),
                memory=self.room.bare + JUDGE_MEMORY,
                cpu_s=None,
                file_bytes=0,
            )
            judge.main(socket.socket(fileno=CHANNEL_FD))

        made = Judge(self.spawn(play), ours)
        theirs.close()
        return made

    def spawn(self, play: Callable[[], None]) -> int:
        """Fork a process that plays and exits; in tier A the first of a namespace of its own."""
        if self.room.tier == "A":
            syscalls.setns(self.room.own, syscalls.CLONE_NEWPID)
            syscalls.unshare(syscalls.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            return pid
        try:
            random.seed(0)
            play()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nothing may climb back into the zygote's loop
            os._exit(70)

    def _clean(self) -> None:
        """Leave nothing for the next program."""
        if self.room.tier == "A" and namespaces.temporary_is_dirty():
            namespaces.fresh_temporary()


def _dress(output: int, channel: socket.socket | None, errors: int | None = None) -> None:
    """Put the three streams and the channel where they belong; `confine` closes the rest."""
    os.dup2(output, 1)
    os.dup2(output if errors is None else errors, 2)
    if channel is None:
        os.dup2(output, CHANNEL_FD)
    else:
        os.dup2(channel.fileno(), CHANNEL_FD)
