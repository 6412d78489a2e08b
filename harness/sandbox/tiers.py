"""Finds the strongest isolation this machine gives, by trying to break out of each."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.errors import UserError
from harness.sandbox.outcome import Job, Limits, Tier
from harness.sandbox.worker import Gone, Unavailable, Worker

TIERS: tuple[Tier, ...] = ("A", "B", "C")

ESCAPES = """
import ctypes, os, socket, threading

def refused(act):
    try:
        act()
    except (OSError, ValueError):
        return True
    return False

def beyond(name, *arguments):
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    return lambda: call(*arguments) >= 0 or (_ for _ in ()).throw(OSError())

def thread():
    done = threading.Thread(target=int)
    done.start()
    done.join()

def fork():
    if os.fork() == 0:
        os._exit(0)

def escapes():
    tried = {
        "start a process": fork,
        "run a command": lambda: os.execv("/bin/true", ["true"]),
        "open a network socket": lambda: socket.socket(socket.AF_INET),
        "open a vsock socket": lambda: socket.socket(socket.AF_VSOCK),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK),
        "read the host's users": lambda: open("/etc/passwd").close(),
        "list the host's processes": lambda: os.listdir("/proc"),
        "write to /var/tmp": lambda: open("/var/tmp/ratchet-escape", "w").close(),
        "signal its parent": lambda: os.kill(os.getppid() or 999999999, 0),
        "unshare namespaces": beyond("unshare", 0x10000000),
        "trace a process": beyond("ptrace", 16, 1, 0, 0),
        "mount": beyond("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "raise its limits": lambda: __import__("resource").setrlimit(7, (1 << 20, 1 << 20)),
        "become somebody else": lambda: os.setuid(os.getuid() + 1),
    }
    thread()
    return sorted(what for what, act in tried.items() if not refused(act))
"""
ESCAPED = "escaped = candidate()\nassert not escaped, ', '.join(escaped)"


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a tier confines programs on this machine; `why` says why not."""

    tier: Tier
    holds: bool
    why: str = ""


def first_worker(tier: Tier) -> Worker:
    """A worker of that tier, tested to confine programs; raises UserError where there is none."""
    worker, probe = _try(tier)
    if worker is None:
        raise UserError(f"no sandbox of tier {tier} on this machine: {probe.why}", hint=HINTS[tier])
    return worker


def probe(tier: Tier) -> Probe:
    """Start a worker of this tier, let a program try to break out, and report."""
    worker, found = _try(tier)
    if worker is not None:
        worker.close()
    return found


def best_worker(minimum: Tier = "B") -> Worker:
    """A worker of the strongest tier that confines programs here; raises UserError where that is
    weaker than `minimum`.
    """
    reasons = []
    for tier in TIERS[: TIERS.index(minimum) + 1]:
        worker, found = _try(tier)
        if worker is not None:
            return worker
        reasons.append(f"tier {tier}: {found.why}")
    raise UserError(
        f"programs can't be confined on this machine ({'; '.join(reasons)})", hint=HINTS["B"]
    )


HOLDS: dict[Tier, str] = {
    "A": "namespaces, seccomp, Landlock; a private /tmp that is fresh for each program",
    "B": "seccomp, Landlock; no new processes, no network, nowhere to write",
    "C": "resource limits only: they stop mistakes, not a program that means harm",
}

HINTS: dict[Tier, str] = {
    "A": "run as root, or allow user namespaces (sysctl user.max_user_namespaces;"
    " Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0; docker: --privileged)",
    "B": "use Linux 5.13 or newer with Landlock, libseccomp2 and pyseccomp;"
    " `ratchet sandbox check` says what is missing",
    "C": "install Python 3.11 or newer on Linux or macOS",
}


def _try(tier: Tier) -> tuple[Worker | None, Probe]:
    try:
        worker = Worker(tier)
    except Unavailable as error:
        return None, Probe(tier, False, str(error))
    limits = Limits(cpu_s=10, wall_s=30)
    if tier == "C":
        job = Job.of_tests("def escapes(): return []", ESCAPED, "escapes", limits=limits)
    else:
        job = Job.of_tests(ESCAPES, ESCAPED, "escapes", limits=limits)
    try:
        outcome = worker.run(job)
    except Gone as error:
        worker.close()
        return None, Probe(tier, False, str(error))
    if not outcome.passed:
        worker.close()
        return None, Probe(tier, False, f"a program could {outcome.detail or outcome.label}")
    return worker, Probe(tier, True)
