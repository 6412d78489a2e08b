"""What a program waits for a core is the machine's doing, and never held against the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.sandbox.inside.standing import Processes
from harness.sandbox.outcome import Limits
from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.run_builders import TIER

SPIN = "while True: pass"
SLEEP = "import time\nprint(flush=True)\ntime.sleep(600)"
SLEEP_BESIDE_A_SPINNER = (
    "import threading, time\n"
    "def spin():\n    while True: pass\n"
    "threading.Thread(target=spin).start()\ntime.sleep(600)"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is read in Linux's /proc")


@contextmanager
def running(program: str) -> Iterator[int]:
    """The number of a process that runs this, in a session of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        try:
            if program == SLEEP:
                assert process.stdout is not None
                process.stdout.readline()  # it has started, and has nothing left to do but sleep
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("program", [SPIN, SLEEP_BESIDE_A_SPINNER])
def test_a_process_that_computes_is_ready_whether_it_has_a_core_or_not(program: str) -> None:
    with running(program) as pid:
        assert all(Processes().is_ready(pid) for _ in range(20))


def test_a_process_that_sleeps_is_not_ready() -> None:
    processes = Processes()
    with running(SLEEP) as pid:
        while processes.is_ready(pid):  # between its line and its sleep
            time.sleep(0.01)
        assert processes.is_ready(pid) is False
        os.kill(pid, signal.SIGSTOP)
        while processes.is_ready(pid):  # it wakes to be stopped
            time.sleep(0.01)
        assert processes.is_ready(pid) is False


def test_nobody_can_tell_of_a_process_that_is_gone() -> None:
    with running("pass") as pid:
        pass
    assert Processes().is_ready(pid) is None


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process and all that it starts share one core."""
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(whole)})
    yield
    os.sched_setaffinity(0, whole)


@pytest.mark.long
@pytest.mark.skipif(TIER == "C", reason="nothing holds the programs here")
def test_a_program_that_gets_no_core_does_not_wait(one_core: None) -> None:
    """Each neighbour has a session of its own: Linux shares a core out by sessions."""
    compute = "def f():\n    return sum(range(1_500_000))"
    with Sandbox(workers=1) as sandbox:
        neighbours = [
            subprocess.Popen([sys.executable, "-c", SPIN], start_new_session=True)
            for _ in range(80)
        ]
        try:
            outcome = sandbox.run_tests(
                compute, "assert f() > 0", "f", limits=Limits(cpu_s=20, wall_s=0.5)
            )
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
    # On a machine that is busier still it may be too slow to tell: then it says so.
    assert outcome.label in ("pass", "timeout:wall-busy"), outcome
    assert not outcome.counts or outcome.passed
