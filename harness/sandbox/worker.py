"""The parent's end of one worker: starts its zygote afresh, hands it jobs, notices its death."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from harness.sandbox.filter import compiled
from harness.sandbox.inside.channel import Lost, receive, send
from harness.sandbox.outcome import Job, Outcome, Tier

INSIDE = Path(__file__).parent
BOOT = (
    "import sys; sys.path[:0] = [sys.argv[1]]; from inside.zygote import main;"
    " main(int(sys.argv[2]))"
)
FLAGS = ("-P", "-s", "-S", "-X", "utf8")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp"}
"""All that a zygote inherits. One hash seed, so that a set has one order in every worker."""

START_S = 60.0
SLACK_S = 60.0
"""How much longer than a job's own limits its worker may be silent."""

PACKAGES = ("site-packages", "dist-packages")
LIBRARIES = ("/usr/lib", "/lib", "/lib64", "/usr/lib64")


class Unavailable(Exception):
    """This machine can't give the tier; says why."""


class Gone(Exception):
    """The worker died in the middle of a job."""


def shown_paths() -> tuple[str, ...]:
    """The folders that tier A's root shows: the standard library, and shared libraries."""
    library = sysconfig.get_config_var("LIBDIR") or ""
    wanted = {str(Path(os.__file__).parent), str(library), *LIBRARIES}
    kept: list[str] = []
    for path in sorted(path for path in wanted if path and Path(path).exists()):
        if not any(path.startswith(f"{outer}/") for outer in kept):
            kept.append(path)
    return tuple(kept)


def readable_paths() -> tuple[str, ...]:
    """What a program may read of them: all but installed packages, which may hold the answers."""
    shown = tuple(f"{Path(path).resolve()}/" for path in shown_paths())
    library = Path(os.__file__).parent
    entries = [
        entry
        for folder in shown
        for entry in Path(folder).iterdir()
        if not entry.name.startswith("python3")
    ]
    entries += library.iterdir()
    paths = {str(entry.resolve()) for entry in entries if entry.name not in PACKAGES}
    return tuple(sorted(p for p in paths if p.startswith(shown) and Path(p).exists()))


class Worker:
    """One zygote with its judge. Used by one thread at a time."""

    def __init__(self, tier: Tier) -> None:
        """Start it; raises Unavailable where this machine can't give `tier`."""
        self.tier: Tier = tier
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.process = subprocess.Popen(
                [sys.executable, *FLAGS, "-c", BOOT, str(INSIDE), str(theirs.fileno())],
                env=ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            self.control = ours.dup()
        try:
            self._order()
        except Unavailable:
            self.close()
            raise

    def _order(self) -> None:
        # The stage is a mount point in the worker's own mount namespace only; here it stays empty.
        stage = tempfile.mkdtemp(prefix="ratchet-sandbox-")
        self.control.settimeout(START_S)
        try:
            order = {
                "tier": self.tier,
                "stage": stage,
                "shown": shown_paths(),
                "readable": readable_paths(),
                "filter": "" if self.tier == "C" else _filter(self.tier),
            }
            send(self.control, order)
            answer = receive(self.control)
        except (Lost, OSError):
            raise Unavailable(f"its process died: {self._last_words()}") from None
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(stage)
        if "ready" not in answer:
            raise Unavailable(answer["failed"])

    def _last_words(self) -> str:
        self.process.kill()
        errors = self.process.stderr
        text = errors.read().decode("utf-8", "replace").strip() if errors else ""
        return text.rpartition("\n")[2] or "no word of why"

    def run(self, job: Job) -> Outcome:
        """Run one job; raises Gone where the worker died, and is useless then."""
        limits = job.limits
        self.control.settimeout(2 * (limits.cpu_s + 10 * limits.wall_s) + SLACK_S)
        try:
            send(self.control, _message(job))
            answer: dict[str, Any] = receive(self.control)
        except (Lost, OSError) as error:
            raise Gone("the worker was lost") from error
        return Outcome(**answer, tier=self.tier)

    def close(self) -> None:
        """End it with all that it started."""
        self.control.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


def _filter(tier: Tier) -> str:
    try:
        return base64.b64encode(compiled(tier == "A")).decode()
    except RuntimeError as error:
        raise Unavailable(
            f"libseccomp is missing ({error}): install the system package libseccomp2"
            " (libseccomp on Fedora and Alpine) and `pip install pyseccomp`"
        ) from error


def _message(job: Job) -> dict[str, Any]:
    limits = job.limits
    return {
        "program": job.program,
        "tests": job.tests,
        "setup": job.setup,
        "entry_point": job.entry_point,
        "calls": _leaves_the_call(job.tests),
        "mode": job.mode,
        "stdin": job.stdin,
        "expected": job.expected,
        "cpu_s": limits.cpu_s,
        "wall_s": limits.wall_s,
        "memory_bytes": limits.memory_bytes,
        "output_bytes": limits.output_bytes,
    }


def _leaves_the_call(tests: str) -> bool:
    """Whether the tests define `check`, as HumanEval's do, and never call it."""
    lines = tests.splitlines()
    return any(line.startswith("def check(") for line in lines) and not any(
        line.startswith("check(") for line in lines
    )
