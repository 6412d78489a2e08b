"""Where the sandbox's tests run their hostile programs: a guarded child that hosts a sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.sandbox.outcome import MIB, Job, Limits, Outcome
from harness.sandbox.tiers import probe

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
QUICK = Limits(cpu_s=0.5, wall_s=0.7, memory_bytes=128 * MIB)


@cache
def guard() -> tuple[str, ...]:
    """The command that puts a child into a process namespace of its own, or nothing."""
    forms = (UNSHARE, (*UNSHARE, "--user", "--map-root-user"))
    for form in forms if shutil.which("unshare") else ():
        if subprocess.run([*form, "true"], capture_output=True).returncode == 0:
            return form
    return ()


@cache
def missing(tier: str) -> str:
    """Why this machine can't give `tier`, or nothing."""
    return probe(tier).why  # type: ignore[arg-type]


class Host:
    """A sandbox in a guarded child."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.facts: dict[str, Any] = {}

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        outcomes = answer.pop("outcomes")
        self.facts = answer
        return [Outcome(**outcome) for outcome in outcomes]

    def answer(self) -> dict[str, Any]:
        """The next line that the child says."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the sandbox's host died"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def host(workers: int, tier: str) -> Iterator[Host]:
    if missing(tier):
        pytest.skip(f"no tier {tier} here: {missing(tier)}")
    process = subprocess.Popen(
        [*guard(), sys.executable, str(HERE / "host_process.py"), str(workers), tier],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        made = Host(process)
        assert made.answer() == {"tier": tier}
        yield made
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            process.wait(120)
        finally:
            process.kill()
            process.wait()
