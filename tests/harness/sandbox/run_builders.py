"""One program, judged by tests: for the tests of the sandbox."""

from __future__ import annotations

from harness.sandbox.outcome import Limits, Outcome
from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.sandbox_builders import missing

TIER = "A" if not missing("A") else "B" if not missing("B") else "C"
PATIENT = Limits(cpu_s=20, wall_s=60)


def run(sandbox: Sandbox, program: str, tests: str, entry_point: str = "f") -> Outcome:
    return sandbox.run_tests(program, tests, entry_point, limits=PATIENT)


IDENTITY = "def f(x): return x"
