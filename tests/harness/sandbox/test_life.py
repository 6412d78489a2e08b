"""A sandbox from its opening to its end: limits, leaks, deaths, and what a program can reach."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.core.errors import UserError
from harness.sandbox import worker as worker_module
from harness.sandbox.outcome import Job, Limits, Outcome, Tier
from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.run_builders import IDENTITY, PATIENT, TIER, run
from tests.harness.sandbox.sandbox_builders import missing


def test_nothing_is_left_for_the_next_program(sandbox: Sandbox) -> None:
    leave = (
        "import math\nmath.left = 1\ntry: open('/tmp/left', 'w').write('x')\nexcept OSError: pass"
    )
    look = "import math, os\ndef f(): return hasattr(math, 'left') or os.path.exists('/tmp/left')"
    for _ in range(4):
        assert run(sandbox, f"{leave}\n{IDENTITY}", "f(1)").passed
        assert run(sandbox, look, "assert f() is False").passed


@pytest.mark.skipif(TIER != "A", reason="only tier A has a place to write")
def test_files_by_their_bare_names_are_the_programs_own(sandbox: Sandbox) -> None:
    program = (
        "import os\nseen = os.listdir()\n"
        "def f(text):\n"
        "    os.makedirs('deep/er', exist_ok=True)\n"
        "    for name in ('out.txt', 'deep/er/out.txt'):\n"
        "        with open(name, 'w') as file: file.write(text)\n"
        "        with open(name) as file: read = file.read()\n"
        "    return read, seen, os.getcwd()\n"
    )
    for text in ("one", "two", "\u4e09"):
        held = f"text, seen, where = f({text!r})\nassert text == {text!r} and seen == []"
        outcome = run(sandbox, program, f"{held}\nassert where.endswith('/tmp')")
        assert outcome.passed, outcome.detail
    # Tests that look at the files are judged where they lie.
    looks = "f('here')\nwith open('out.txt') as file: assert file.read() == 'here'"
    assert run(sandbox, program, looks).passed
    spoken = "open('a.csv', 'w').write(input())\nprint(open('a.csv').read())"
    assert sandbox.run_stdio(spoken, stdin="1,2\n", expected_stdout="1,2\n").passed


def test_a_program_is_deterministic(sandbox: Sandbox) -> None:
    program = "import random\ndef f():\n    print(random.random(), list({'a', 'b', 'c', 'd'}))"
    jobs = [Job.of_tests(program, "f()", "f", limits=PATIENT) for _ in range(8)]
    assert len({outcome.output for outcome in sandbox.run_many(jobs)}) == 1


def test_limits_scale_from_a_reference() -> None:
    reference = Outcome("pass", cpu_s=0.5, peak_memory_bytes=300 << 20)
    limits = Limits.from_reference(reference, factor=4)
    assert limits.cpu_s == 2.0
    assert limits.memory_bytes == 1200 << 20
    assert Limits.from_reference(Outcome("pass", cpu_s=0.001)).cpu_s == 1.0


def test_a_limit_is_above_zero() -> None:
    with pytest.raises(UserError, match="above 0"):
        Limits(cpu_s=0)


def test_no_form_of_job_leaks_a_descriptor(sandbox: Sandbox) -> None:
    jobs = [
        Job.of_tests(IDENTITY, "assert f(1) == 1", "f", limits=PATIENT),
        Job.of_tests("def f(g): return g(2)", "f(abs)", "f", limits=PATIENT),
        Job.of_stdio("print(1)", "", "1", limits=PATIENT),
    ]
    sandbox.run_many(jobs * 2)
    before = len(list(Path("/dev/fd").iterdir()))
    assert all(outcome.passed for outcome in sandbox.run_many(jobs * 20))
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_sandbox_needs_a_worker_and_a_with_block() -> None:
    with pytest.raises(UserError, match="at least one worker"):
        Sandbox(workers=0)
    with pytest.raises(UserError, match="not open"):
        Sandbox().run_tests(IDENTITY, "f(1)", "f")


def test_below_tier_b_it_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> bytes:
        raise RuntimeError("no libseccomp")

    monkeypatch.setattr(worker_module, "compiled", unavailable)
    with pytest.raises(UserError) as refusal, Sandbox():
        pass
    assert "\n" not in refusal.value.what
    assert "no libseccomp" in refusal.value.what
    assert "libseccomp2" in refusal.value.what
    assert refusal.value.hint
    with Sandbox(workers=1, minimum="C") as sandbox:
        assert sandbox.tier == "C"
        assert run(sandbox, IDENTITY, "assert f(1) == 1").passed


REACHING_OUT = """
import fcntl, os, resource, socket
def attempts(pid, path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield "signals of a descriptor", lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
    yield "limits of a process", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE)
    yield "a signal", lambda: os.kill(pid, 0)
    yield "a datagram", lambda: ours.sendto(b"x", path)
    yield "a message", lambda: ours.sendmsg([b"x"], [], 0, path)
    yield "a socket joined", lambda: ours.connect(path)
    yield "a new socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(path)
def f(pid, path):
    done = []
    for name, attempt in attempts(pid, path):
        try:
            attempt()
            done.append(name)
        except OSError:
            pass
    return done
"""


@pytest.mark.parametrize("tier", ["A", "B"])
def test_a_program_reaches_no_process_and_no_socket_of_the_host(tier: Tier, tmp_path: Path) -> None:
    if missing(tier):
        pytest.skip(missing(tier))
    path = str(tmp_path / "host.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        # Not this process itself: where a test run is the first of a namespace, so is a program.
        with (
            subprocess.Popen(["sleep", "60"]) as neighbour,
            Sandbox(workers=1, tier=tier) as sandbox,
        ):
            tests = f"done = f({neighbour.pid}, {path!r})\nassert done == [], done"
            outcome = run(sandbox, REACHING_OUT, tests)
            neighbour.kill()
    assert outcome.passed, outcome


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def kill_in_mid_run(zygote: psutil.Process, idle: int) -> None:
    """Kill it once it has more than `idle` children, however long that takes on this machine."""
    while len(zygote.children(recursive=True)) <= idle:
        time.sleep(0.005)
    zygote.kill()


@pytest.mark.skipif(TIER == "C", reason="nothing holds the programs here")
def test_a_zygote_killed_in_mid_run_is_infra_and_tried_again() -> None:
    sleepy = "import time\ndef f():\n    time.sleep(1)\n    return 1"
    before = children()
    with Sandbox(workers=1) as sandbox:
        [victim] = children() - before
        idle = len(victim.children(recursive=True))
        threading.Thread(target=kill_in_mid_run, args=[victim, idle], daemon=True).start()
        outcome = sandbox.run_tests(sleepy, "assert f() == 1", "f", limits=PATIENT)
        assert (outcome.label, outcome.attempts) == ("pass", 2)
        [another] = children() - before - {victim}
        assert another.is_running()


def test_a_sandbox_lost_for_good_is_infra_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    with Sandbox(workers=1, minimum="C") as sandbox:
        for zygote in children() - before:
            zygote.kill()
            os.waitid(os.P_PID, zygote.pid, os.WEXITED | os.WNOWAIT)  # its parent reaps it

        def unavailable(*_: object) -> None:
            raise worker_module.Unavailable("gone")

        monkeypatch.setattr("harness.sandbox.pool.Worker", unavailable)
        outcome = sandbox.run_tests(IDENTITY, "f(1)", "f")
    assert (outcome.label, outcome.counts) == ("infra", False)


def test_the_end_of_a_sandbox_ends_what_runs_in_it() -> None:
    before = children()
    with Sandbox(workers=1, minimum="C") as sandbox:
        thread = threading.Thread(
            target=sandbox.run_tests,
            args=("import time\ndef f(): time.sleep(60)", "f()", "f"),
            daemon=True,
        )
        thread.start()
        time.sleep(0.3)
        [zygote] = children() - before
    assert not zygote.is_running()
