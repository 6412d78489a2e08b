"""Confines each process before it runs anything: limits first, the system-call filter last."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
from dataclasses import dataclass

from . import syscalls

OPEN_FILES = 64
TASKS = 64
FIRST_FOREIGN = 5
"""Descriptors 0 to 4 (streams, channel, brief) stay; from here on they are the zygote's, and are
closed."""
LAST_FOREIGN = 4096


@dataclass(frozen=True, slots=True)
class Walls:
    """What confines a process.

    tier      A, B or C
    user      the user id to become, or None to stay
    program   the compiled seccomp filter that a child adds to the zygote's (tiers A and B)
    ruleset   the descriptor of Landlock's rules, or None (tier C)
    """

    tier: str
    user: int | None
    program: bytes
    ruleset: int | None


def confine(walls: Walls, *, memory: int | None, cpu_s: float | None, file_bytes: int) -> None:
    """Confine this process for good, before it runs the program or tests.

    memory      bytes of address space, or None for no limit
    cpu_s       CPU seconds, or None for no limit
    file_bytes  the largest file that it may write

    Raises OSError where the system refuses a step. The order matters: a step may need rights that
    a later one takes away.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    if memory is not None:
        _limit(resource.RLIMIT_AS, memory)
    if cpu_s is not None:
        # Whole seconds only. The watch outside stops it earlier; this limit is for when it can't.
        _limit(resource.RLIMIT_CPU, math.ceil(cpu_s) + 1)
    if walls.tier == "C":
        os.closerange(FIRST_FOREIGN, LAST_FOREIGN)
        return
    if walls.tier == "A":
        _limit(resource.RLIMIT_NPROC, TASKS)
    if walls.user is not None:
        # The group first: without root's user id it can't be changed any more.
        os.setresgid(walls.user, walls.user, walls.user)
        os.setresuid(walls.user, walls.user, walls.user)
    syscalls.drop_capabilities()
    if walls.ruleset is not None:
        syscalls.landlock_restrict(walls.ruleset)
    # It dies with the zygote. Set after the change of user, at which the kernel clears it.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.closerange(FIRST_FOREIGN, LAST_FOREIGN)
    # Last: it refuses the calls above.
    syscalls.install_filter(walls.program)


def _limit(which: int, value: int) -> None:
    """Set a limit, soft and hard; never above a hard limit that stands already."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    if sys.platform == "linux":
        resource.setrlimit(which, (value, value))
    else:
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
            resource.setrlimit(which, (value, value))
