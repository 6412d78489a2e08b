"""A worker's root process: confines itself once, then forks a child for each program.

It has one thread and the standard library loaded, and sends its parent one answer per job.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import importlib
import json
import os
import random
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import candidate, judge, namespaces, syscalls
from .channel import Lost, receive, receive_with, scratch, send, send_with
from .confine import Walls, confine
from .standing import Processes
from .watch import BROKEN, Finished, Judge, Watch

WARM = (
    *("abc", "array", "ast", "bisect", "collections", "contextlib", "copy", "csv", "dataclasses"),
    *("datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io"),
    *("itertools", "json", "locale", "math", "numbers", "operator", "queue", "random", "re"),
    *("statistics", "string", "struct", "textwrap", "threading", "time", "traceback", "types"),
    *("typing", "unicodedata", "encodings.idna", "encodings.latin_1"),
)
"""Loaded before the first fork, so that no program pays for its imports."""

JUDGE_MEMORY = 1024**3
JUDGE_JOBS = 2000
"""A judge is replaced after so many programs, even if it seems to be in order."""

CHANNEL_FD = 3
BRIEF_FD = 4


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker was ordered to be, and what it set up.

    control   the channel to the parent
    tier      A, B or C
    readable  what programs may read
    zygotes   the seccomp filter of the zygote; `childs` what each child adds
    user      the user id that programs change to, or None
    bare      bytes of address space of the interpreter before any program
    own       a descriptor of this process, to come back to its process namespace (tier A), or -1
    """

    control: socket.socket
    tier: str
    readable: tuple[str, ...]
    zygotes: bytes
    childs: bytes
    user: int | None
    bare: int
    own: int


def main(control_fd: int) -> None:
    """Receive the order, set up the namespaces, report that, and serve until the parent ends."""
    if control_fd != CHANNEL_FD:
        os.dup2(control_fd, CHANNEL_FD)
        os.close(control_fd)
    os.dup2(0, BRIEF_FD)  # so that no descriptor of this process has its number
    control = socket.socket(fileno=CHANNEL_FD)
    order = receive(control)
    for name in WARM:
        importlib.import_module(name)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        processes = Processes()  # before the host's files are left
        room = _furnish(control, order)
        # What is alive now is shared with every child: a collection there would touch, and so
        # copy, its pages.
        gc.collect()
        gc.freeze()
        worker = Worker(room, processes)
    except OSError as error:
        send(control, {"failed": error.strerror or str(error)})
        return
    try:
        worker.serve()
    except Lost:
        os._exit(0)


def _furnish(control: socket.socket, order: dict[str, Any]) -> Room:
    bare = _address_space()
    zygotes, childs = map(base64.b64decode, order["filters"])
    user = None
    if order["tier"] == "A":
        user = namespaces.enter(order["stage"], order["shown"], order["hidden"])
        _become_first()
        namespaces.fresh_temporary()
    os.chdir("/")
    return Room(
        control,
        order["tier"],
        tuple(order["readable"]),
        zygotes,
        childs,
        user,
        bare,
        os.pidfd_open(os.getpid()) if order["tier"] == "A" else -1,
    )


def _become_first() -> None:
    """Go on in a child, the first process of the new process namespace; this one only waits."""
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

    def __init__(self, room: Room, processes: Processes) -> None:
        self.room = room
        self.processes = processes
        self.ruleset = self._rules()
        self.cores = syscalls.cores()
        if room.tier != "C":
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            syscalls.install_filter(room.zygotes)
        self.judge, line = self._new_judge()
        with line:
            send_with(room.control, {"ready": room.tier}, [line.fileno()])

    def serve(self) -> None:
        """Take jobs until the parent ends: limits and descriptors in, measures and outputs back."""
        while True:
            job, given = receive_with(self.room.control)
            play = {"split": self._split, "together": self._together, "stdio": self._stdio}
            finished, outputs = play[job["kind"]](job, given)
            answer = {
                "label": finished.label,
                "detail": finished.detail,
                "cpu_s": finished.cpu_s,
                "wall_s": finished.wall_s,
                "peak_memory_bytes": finished.peak,
                "chosen": finished.chosen,
                "judged": finished.judged,
                "new_judge": not self.judge.alive or self.judge.jobs >= JUDGE_JOBS,
            }
            if answer["new_judge"]:
                self.judge.kill()
                self.judge, line = self._new_judge()
                outputs.append(line.detach())
            send_with(self.room.control, answer, outputs)
            for descriptor in (*given, *outputs):
                os.close(descriptor)
            self._clean()

    def _split(self, job: dict[str, Any], given: list[int]) -> tuple[Finished, list[int]]:
        ours, theirs = socket.socketpair()
        output = scratch()

        def play() -> None:
            _dress(given[0], output, output, theirs)
            self._confine(job)
            channel = socket.socket(fileno=CHANNEL_FD)
            candidate.serve(channel, *read_brief())

        with ours, theirs:
            self._gather()
            watch = self._watched(play, job)
            syscalls.keep_to(0, self.cores)
            theirs.close()
            self.judge.take(ours)
        return watch.until_judged(self.judge), [output]

    def _together(self, job: dict[str, Any], given: list[int]) -> tuple[Finished, list[int]]:
        ours, theirs = socket.socketpair()
        output = scratch()
        nonce = os.urandom(16).hex()

        def play() -> None:
            _dress(given[0], output, output, theirs)
            self._confine(job)
            answer = candidate.together(*read_brief())
            send(socket.socket(fileno=CHANNEL_FD), [nonce, *answer])

        with ours:
            watch = self._watched(play, job)
            theirs.close()
            return watch.until_reported(ours, nonce), [output]

    def _stdio(self, job: dict[str, Any], given: list[int]) -> tuple[Finished, list[int]]:
        output, errors = scratch(), scratch()

        def play() -> None:
            os.dup2(given[1], 0)
            _dress(given[0], output, errors, None)
            self._confine(job)
            candidate.as_main(*read_brief())

        watch = self._watched(play, job)
        return watch.until_gone(), [output, errors]

    def _gather(self) -> None:
        """Keep the judge and the program that is forked next on this core.

        They take turns at every call, and waking a process on another core takes ten times as long
        as switching to it here. For a program that computes for longer its watch undoes this.
        """
        if len(self.cores) > 1:
            here = {syscalls.current_core()}
            for pid in (0, self.judge.pid):
                syscalls.keep_to(pid, here)

    def _watched(self, play: Callable[[], None], job: dict[str, Any]) -> Watch:
        return Watch(
            self.spawn(play),
            job,
            self.room.control,
            leads=self.room.tier == "C",
            cores=self.cores,
            processes=self.processes,
        )

    def _confine(self, job: dict[str, Any]) -> None:
        if self.room.tier == "A":
            os.chdir(namespaces.TEMPORARY)  # where a program may write files by their bare names
        confine(
            self._walls(),
            memory=self.room.bare + job["memory_bytes"],
            cpu_s=job["cpu_s"],
            file_bytes=job["output_bytes"],
        )

    def _walls(self) -> Walls:
        return Walls(self.room.tier, self.room.user, self.room.childs, self.ruleset)

    def _rules(self) -> int | None:
        if self.room.tier == "C":
            return None
        own = (namespaces.WRITABLE,) if self.room.tier == "A" else ()
        readable = (*self.room.readable, *namespaces.DEVICES)
        return syscalls.landlock_ruleset(readable, ("/dev/null", *own))

    def _new_judge(self) -> tuple[Judge, socket.socket]:
        """A judge, and the parent's end of the line over which it gets tests. This process keeps
        no end of that line, so that no program can inherit one.
        """
        ours, theirs = socket.socketpair()
        parents, line = socket.socketpair()

        def play() -> None:
            # What tests print is dropped: the parent reads no pipe, which would fill.
            os.dup2(1, 2)
            os.dup2(theirs.fileno(), CHANNEL_FD)
            os.dup2(line.fileno(), BRIEF_FD)
            walls = self._walls()
            confine(walls, memory=self.room.bare + JUDGE_MEMORY, cpu_s=None, file_bytes=0)
            judge.main(socket.socket(fileno=CHANNEL_FD), socket.socket(fileno=BRIEF_FD))

        with theirs, line:
            return Judge(self.spawn(play), ours), parents

    def spawn(self, play: Callable[[], None]) -> int:
        """Fork a process that calls `play` and exits; in tier A in its own process namespace.

        Returns its PID.
        """
        if self.room.tier == "A":
            # Back to the worker's own first: only from there can another one be made.
            syscalls.setns(self.room.own, syscalls.CLONE_NEWPID)
            syscalls.unshare(syscalls.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            return pid
        try:
            if self.room.tier == "C":
                os.setsid()  # a group of its own, by which processes that it starts are killed
            random.seed(0)
            play()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - no exception may reach the zygote's loop
            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(BROKEN)

    def _clean(self) -> None:
        """Remove what a program left in /tmp before the next one starts."""
        if self.room.tier == "A" and namespaces.temporary_is_dirty():
            namespaces.fresh_temporary()


def _dress(brief: int, output: int, errors: int, channel: socket.socket | None) -> None:
    """Put the descriptors at their fixed numbers; `confine` closes all others."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.dup2(brief, BRIEF_FD)
    if channel is None:
        os.close(CHANNEL_FD)
    else:
        os.dup2(channel.fileno(), CHANNEL_FD)


def read_brief() -> list[Any]:
    """What to run. Only the program's own process reads it.

    What the zygote reads stays in its memory, which every later program inherits and could search:
    for other answers to the same problem, and for the tests.
    """
    with os.fdopen(BRIEF_FD, "rb") as file:
        file.seek(0)
        brief: list[Any] = json.loads(file.read())
    return brief
