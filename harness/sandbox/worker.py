"""The parent's end of a worker: starts its zygote, hands it jobs, notices its death."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.sandbox.filter import compiled
from harness.sandbox.inside.channel import Lost, receive, receive_with, scratch, send, send_with
from harness.sandbox.inside.stand_in import UNSPLITTABLE
from harness.sandbox.one_process import need_one_process
from harness.sandbox.outcome import Job, Limits, Outcome, Tier
from harness.sandbox.printed import difference

INSIDE = Path(__file__).parent
BOOT = (
    "import sys; sys.path[:0] = [sys.argv[1]]; from inside.zygote import main;"
    " main(int(sys.argv[2]))"
)
FLAGS = ("-P", "-s", "-S", "-X", "utf8")
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/tmp",
    "MALLOC_ARENA_MAX": "1",
}
"""All the environment that a zygote gets. One hash seed, so that a set has the same order in every
worker; one malloc arena, since one per thread would reserve 64 MiB of address space each."""

START_S = 60.0
OUTPUT_TAIL = 4096
SLACK_S = 60.0
"""How many seconds longer than a job's own limits its worker may take to answer."""

PACKAGES = ("site-packages", "dist-packages")
LIBRARIES = ("/usr/lib", "/lib", "/lib64", "/usr/lib64")


class Unavailable(Exception):
    """This machine does not support the tier; the message says why."""


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
    """What programs may read of `shown_paths`: all but installed packages, which may hold the
    answers.
    """
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


def hidden_paths() -> tuple[str, ...]:
    """Folders of installed packages within `shown_paths`, over which tier A mounts empty ones."""
    folders = {Path(os.__file__).parent}
    for shown in map(Path, shown_paths()):
        folders.update(folder for folder in shown.resolve().glob("python3*") if folder.is_dir())
    packages = {folder / name for folder in folders for name in PACKAGES}
    return tuple(sorted(str(path.resolve()) for path in packages if path.is_dir()))


class Worker:
    """One zygote with its judge. Used by one thread at a time."""

    def __init__(self, tier: Tier) -> None:
        """Start it; raises Unavailable where this machine does not support `tier`."""
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
        self.line = self.control  # until the zygote sends that of its judge
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
                "hidden": hidden_paths(),
                "readable": ["/"] if self.tier == "A" else readable_paths(),
                "filters": _filters(self.tier),
            }
            send(self.control, order)
            answer, lines = receive_with(self.control)
        except (Lost, OSError):
            raise Unavailable(f"its process died: {self._last_words()}") from None
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(stage)
        if "ready" not in answer:
            raise Unavailable(answer["failed"])
        self.line = socket.socket(fileno=lines[0])

    def _last_words(self) -> str:
        self.process.kill()
        errors = self.process.stderr
        text = errors.read().decode("utf-8", "replace").strip() if errors else ""
        return text.rpartition("\n")[2] or "no word of why"

    def run(self, job: Job) -> Outcome:
        """Run one job; raises Gone where the worker died, which must then be replaced."""
        try:
            if job.stdin is not None:
                return self._stdio(job)
            if job.mode == "cooperative" or (job.mode == "auto" and need_one_process(job.tests)):
                return self._together(job)
            outcome = self._split(job)
            if outcome is None and job.mode == "auto":
                return self._together(job)
            return outcome or Outcome("infra", "its tests can't be split", tier=self.tier)
        except (Lost, OSError) as error:
            raise Gone("the worker was lost") from error

    def _split(self, job: Job) -> Outcome | None:
        """The outcome by tests in another process; None where these tests can't be split off."""
        brief = _file(json.dumps([[job.program, *job.others], job.setup, job.entry_point]))
        tests = [job.tests, job.setup, job.entry_point, _leaves_the_call(job.tests)]
        with self._asked("split", job.limits, [brief]):
            with contextlib.suppress(Lost):  # a judge that died is its zygote's to replace
                send(self.line, tests)
            answer, [output] = self._answer()
        if answer["label"] == UNSPLITTABLE:
            os.close(output)
            return None
        return self._outcome(answer, output, job.limits)

    def _together(self, job: Job) -> Outcome:
        calls = _leaves_the_call(job.tests)
        programs = [job.program, *job.others]
        brief = _file(json.dumps([programs, job.setup, job.entry_point, job.tests, calls]))
        with self._asked("together", job.limits, [brief]):
            answer, [output] = self._answer()
        return replace(self._outcome(answer, output, job.limits), verdict="cooperative")

    def _stdio(self, job: Job) -> Outcome:
        given = [_file(json.dumps([job.program])), _file(job.stdin or "")]
        os.lseek(given[1], 0, os.SEEK_SET)
        with self._asked("stdio", job.limits, given):
            answer, [output, errors] = self._answer()
        written = os.fstat(output).st_size
        printed = _read(output, job.limits.output_bytes)
        if (answer["label"], answer["detail"]) == ("fail:exited", "exit status 0"):
            wrong = difference(printed, job.expected or "")
            answer.update(label="fail:tests" if wrong else "pass", detail=wrong or "")
        outcome = self._outcome(answer, errors, job.limits)
        outcome = _unless_flooded(outcome, written, job.limits)
        return replace(outcome, output=outcome.output or printed[-OUTPUT_TAIL:])

    @contextlib.contextmanager
    def _asked(self, kind: str, limits: Limits, given: list[int]) -> Iterator[None]:
        longest = 2 * (limits.cpu_s + 10 * limits.wall_s) + SLACK_S
        self.control.settimeout(longest)
        self.line.settimeout(longest)
        try:
            send_with(self.control, {"kind": kind, **asdict(limits)}, given)
        finally:
            for descriptor in given:
                os.close(descriptor)
        yield

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        """What the zygote measured, with the judge's words, and the files of the output."""
        answer, outputs = receive_with(self.control)
        if answer.pop("judged"):
            words, answer["chosen"] = receive(self.line)
            answer["detail"] = answer["detail"] or words
        if answer.pop("new_judge"):
            self.line.close()
            self.line = socket.socket(fileno=outputs.pop())
        return answer, outputs

    def _outcome(self, answer: dict[str, Any], output: int, limits: Limits) -> Outcome:
        """The outcome that a zygote's answer and the file of the output make."""
        written = os.fstat(output).st_size
        tail = _read(output, OUTPUT_TAIL, max(0, written - OUTPUT_TAIL))
        outcome = Outcome(**answer, output=tail, tier=self.tier)
        return _unless_flooded(outcome, written, limits)

    def close(self) -> None:
        """End it, and all processes that it started."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
        self.control.close()
        self.line.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


def _unless_flooded(outcome: Outcome, written: int, limits: Limits) -> Outcome:
    """The outcome, as `fail:output` where it failed after it had filled its output."""
    if not outcome.label.startswith("fail") or written < limits.output_bytes:
        return outcome
    return replace(outcome, label="fail:output", detail=f"it printed {written} bytes")


def _filters(tier: Tier) -> list[str]:
    if tier == "C":
        return ["", ""]
    try:
        filters = compiled(tier == "A")
    except RuntimeError as error:
        raise Unavailable(
            f"libseccomp is missing ({error}): install the system package libseccomp2"
            " (libseccomp on Fedora and Alpine) and `pip install pyseccomp`"
        ) from error
    return [base64.b64encode(program).decode() for program in (filters.zygote, filters.child)]


def _file(text: str) -> int:
    """A descriptor of a file without a name that holds this text, to be passed to the zygote."""
    descriptor = scratch()
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(text.encode("utf-8", "replace"))
    return descriptor


def _read(descriptor: int, count: int, start: int = 0) -> str:
    """Part of a file as text; the descriptor is closed."""
    try:
        return os.pread(descriptor, count, start).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _leaves_the_call(tests: str) -> bool:
    """Whether the tests define `check`, as HumanEval's do, and never call it."""
    lines = tests.splitlines()
    return any(line.startswith("def check(") for line in lines) and not any(
        line.startswith("check(") for line in lines
    )
