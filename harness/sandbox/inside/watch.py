"""Watches one program: CPU and wall-clock limits, and the label of how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from . import syscalls
from .channel import HEADER, Lost, receive, send_with
from .stand_in import LOST, is_choice
from .standing import Processes

TICK_S = 0.1
SHORTEST_TICK_S = 0.002
LONGEST_COUNTED_S = 0.5
"""The most seconds that a tick counts for: in a longer one the watch itself got no core."""

IDLE_SHARE = 0.02
"""A program that computed for less than this share of a tick counts as waiting in it, unless it was
ready to go on and the machine gave it no core."""

TURNS_SHARE = 0.2
"""Program and judge count as taking turns while each has at least this share of their CPU time."""

BUSY_FACTOR = 10
"""A program that computes is stopped by the clock after this many times `wall_s`."""

GRACE_S = 2.0
"""How many seconds a process that has closed its channel gets to end, beside what it waits for a
core."""

BROKEN = 70
"""The exit status of a process that failed while it served its judge (sysexits: software)."""
JUDGE_CPU_S = 5.0
REPORT_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended and what it took: seconds, and `peak` bytes of memory.

    `judged`: its judge gave a verdict, and sends the detail to the parent itself. `chosen`: which
    of several programs was loaded, as the process says that has no judge.
    """

    label: str
    detail: str
    cpu_s: float
    wall_s: float
    peak: int
    judged: bool
    chosen: int = 0


class Judge:
    """The zygote's end of a judge."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.jobs = 0
        self.alive = True

    def take(self, channel: socket.socket) -> None:
        """Hand it a program's channel; a judge that can't take it is killed, to be replaced."""
        self.jobs += 1
        try:
            send_with(self.control, "program", [channel.fileno()])
        except (OSError, Lost):
            self.kill()

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.control.close()


class Watch:
    """One program from its fork to its end."""

    def __init__(
        self,
        pid: int,
        job: dict[str, Any],
        parent: socket.socket,
        leads: bool,
        cores: set[int],
        processes: Processes,
    ) -> None:
        """Watch process `pid`. `leads`: it leads a process group, which is killed with it. `cores`:
        all that it may ever use; empty where they are not chosen.
        """
        self.pid = pid
        self.leads = leads
        self.cores = cores
        self.processes = processes
        self.parent = parent
        self.cpu_limit: float = job["cpu_s"]
        self.wall_limit: float = job["wall_s"]
        self.gone = os.pidfd_open(pid) if sys.platform == "linux" else -1
        self.started = self.last = time.monotonic()
        self.idle = 0.0
        self.waited = 0.0
        self.seen = 0.0
        self.used = 0.0
        self.why: tuple[str, str] | None = None
        self.judge_started = 0.0
        self.judged = False
        self.chosen = 0
        self.reaped: tuple[int, resource.struct_rusage] | None = None

    def until_judged(self, judge: Judge) -> Finished:
        """Wait for the judge's verdict, and end the program."""
        verdict: tuple[str, str] = ("infra", "the judge was lost")
        if judge.alive:
            self.judge_started = _clock(judge.pid)
            with self._poll(judge.control.fileno()) as poll:
                while judge.alive:
                    if self._ready(poll, judge.control.fileno()):
                        try:
                            verdict = receive(judge.control), ""
                            self.judged = True
                        except Lost:
                            judge.kill()
                        break
                    self._tick(judge)
        return self._ended(verdict)

    def until_reported(self, channel: socket.socket, nonce: str) -> Finished:
        """Wait until the process itself reports its verdict: the cooperative form.

        The report must begin with `nonce`, which is not given to the program.
        """
        heard = b""
        verdict: tuple[str, str] = (LOST, "")
        with self._poll(channel.fileno()) as poll:
            while self.why is None:
                if self._ready(poll, channel.fileno()):
                    data = channel.recv(REPORT_BYTES)
                    heard += data
                    if not data or len(heard) > REPORT_BYTES:
                        break
                    if (report := _report(heard, nonce)) is not None:
                        verdict, self.chosen = report[:2], report[2]
                        break
                else:
                    self._tick(None)
        return self._ended(verdict)

    def until_gone(self) -> Finished:
        """Wait until the process leaves by itself."""
        with self._poll(self.gone) as poll:
            while self.why is None and not self._ready(poll, self.gone):
                self._tick(None)
        return self._ended((LOST, ""), serving=False)

    def _leaves(self) -> bool:
        """Whether a process that has closed its channel ends by itself.

        It gets `GRACE_S` in which it waits or computes: what it is kept from a core doesn't count.
        """
        grace, used, last = GRACE_S, _clock(self.pid), time.monotonic()
        until = last + BUSY_FACTOR * self.wall_limit
        with self._poll(self.gone) as poll:
            while not (left := self._ready(poll, self.gone)) and grace > 0 and last < until:
                now, computed = time.monotonic(), _clock(self.pid)
                kept = self.processes.is_ready(self.pid) and computed == used
                grace -= 0 if kept else min(now - last, LONGEST_COUNTED_S)
                used, last = computed, now
        if not left and grace > 0:
            self._stop(*self._too_long(last - self.started))
        return left

    @contextlib.contextmanager
    def _poll(self, fd: int) -> Any:
        poll = select.poll()
        if fd >= 0:
            poll.register(fd, select.POLLIN)
        poll.register(self.parent.fileno(), select.POLLIN)
        try:
            yield poll
        except BaseException:
            self._kill()
            raise

    def _ready(self, poll: Any, fd: int) -> bool:
        """Whether `fd` has something before the next tick. Raises Lost where the parent is gone."""
        # No tick is longer than the CPU time that is left, so that the limit is met in time.
        left = max(SHORTEST_TICK_S, self.cpu_limit - self.used)
        events = dict(poll.poll(min(TICK_S, left) * 1000 + 1))
        if self.parent.fileno() in events:
            raise Lost
        if fd < 0:
            return self._reap(os.WNOHANG) is not None
        return fd in events

    def _tick(self, judge: Judge | None) -> None:
        """Account for the time since the last tick, and stop the program at a limit.

        The clock counts only while the program waits, or at ten times its limit: a busy machine
        must not fail a right program, and does not add to its CPU time. One that got no core did
        not wait: it was ready, or its judge was.
        """
        now = time.monotonic()
        passed = min(now - self.last, LONGEST_COUNTED_S)
        self.used = _clock(self.pid)
        judging = _clock(judge.pid) - self.judge_started if judge else 0.0
        computed = self.used + judging - self.seen
        if self.gone >= 0 and not (ready := self._kept_from_a_core(judge)):
            self.idle += passed if computed < IDLE_SHARE * passed else 0
            self.waited += 0 if ready is None else max(0, passed - computed)
        if judge and self.cores and not self._take_turns(judging):
            self._spread(judge)
        self.last, self.seen = now, self.used + judging
        if judge and judging > max(JUDGE_CPU_S, self.cpu_limit):
            self._stop("timeout:cpu", f"its judge used more than {judging:.0f} s of CPU on it")
            judge.kill()
        if self.used > self.cpu_limit:
            self._stop("timeout:cpu", f"more than {self.cpu_limit:g} s of CPU")
        elif self.idle >= self.wall_limit:
            self._stop("timeout:wall-idle", f"waited for {self.wall_limit:g} s")
        elif now - self.started > BUSY_FACTOR * self.wall_limit:
            self._stop(*self._too_long(now - self.started))

    def _kept_from_a_core(self, judge: Judge | None) -> bool | None:
        """Whether the program, or its judge, was ready to go on; None where nobody can tell."""
        told = [self.processes.is_ready(pid) for pid in (self.pid, *([judge.pid] if judge else []))]
        return True if True in told else None if None in told else False

    def _too_long(self, passed: float) -> tuple[str, str]:
        """What stops a program that the clock stops: its own waiting, in pieces, or the machine."""
        if self.waited > passed / 2:
            return "timeout:wall-idle", f"waited for {self.waited:.0f} of {passed:.0f} s"
        return "timeout:wall-busy", f"not done after {passed:.0f} s"

    def _take_turns(self, judging: float) -> bool:
        """Whether both the program and its judge have computed for a fair part so far."""
        return min(self.used, judging) > TURNS_SHARE * (self.used + judging)

    def _spread(self, judge: Judge) -> None:
        """Let both use all cores again: one of them computes for long by itself."""
        for pid in (self.pid, judge.pid):
            syscalls.keep_to(pid, self.cores)
        self.cores = set()

    def _stop(self, label: str, detail: str) -> None:
        if self.why is None:
            self.why = label, detail
            self._kill()

    def _kill(self) -> None:
        if self.reaped is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.leads:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _reap(self, flags: int) -> tuple[int, resource.struct_rusage] | None:
        """How the process ended and what it used; None while it runs."""
        if self.reaped is None:
            pid, status, usage = os.wait4(self.pid, flags)
            self.reaped = (status, usage) if pid else None
        return self.reaped

    def _ended(self, verdict: tuple[str, str], serving: bool = True) -> Finished:
        """Kill the process, measure what it used, and decide on one label."""
        # It closed its channel and lives on, so its channel was not lost by dying.
        if verdict[0] == LOST and self.why is None and not self._leaves():
            verdict = ("fail:protocol", "it closed the channel to its judge")
        self._kill()
        ended = self._reap(0)
        assert ended is not None  # without WNOHANG it waits
        status, usage = ended
        if self.gone >= 0:
            os.close(self.gone)
        cpu = usage.ru_utime + usage.ru_stime
        label, detail = self.why or verdict
        if label == LOST:
            label, detail = self._died(status, cpu)
            if serving and os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
                label, detail = "fail:protocol", "it broke the channel to its judge"
        if cpu > self.cpu_limit and label not in ("infra", "timeout:cpu"):
            label, detail = "timeout:cpu", f"more than {self.cpu_limit:g} s of CPU"
        return Finished(
            label,
            detail,
            cpu,
            time.monotonic() - self.started,
            usage.ru_maxrss * (1024 if sys.platform == "linux" else 1),
            self.judged,
            self.chosen,
        )

    def _died(self, status: int, cpu: float) -> tuple[str, str]:
        if not os.WIFSIGNALED(status):
            return "fail:exited", f"exit status {os.waitstatus_to_exitcode(status)}"
        number = signal.Signals(os.WTERMSIG(status))
        if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu >= self.cpu_limit):
            return "timeout:cpu", f"more than {self.cpu_limit:g} s of CPU"
        if number == signal.SIGXFSZ:
            return "fail:output", number.name
        if number == signal.SIGKILL:
            return "infra", "the system killed it: is the machine out of memory?"
        return "fail:signal", number.name


def _clock(pid: int) -> float:
    """CPU seconds of a process so far; 0 where it is gone or the system can't tell."""
    try:
        return time.clock_gettime(syscalls.cpu_clock(pid))
    except (OSError, AttributeError):
        return 0.0


def _report(heard: bytes, nonce: str) -> tuple[str, str, int] | None:
    """(label, detail, program) of a complete message; None while it is incomplete."""
    length = int.from_bytes(heard[:HEADER], "big")
    if len(heard) < HEADER or (len(heard) < HEADER + length and length <= REPORT_BYTES):
        return None
    try:
        match json.loads(heard[HEADER : HEADER + length]):
            case [said, str(label), str(detail), chosen] if said == nonce and is_choice(chosen):
                return label, detail, chosen
    except (ValueError, RecursionError):
        pass
    return "fail:protocol", "a verdict that is not its own", 0
