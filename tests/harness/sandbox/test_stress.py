"""Thousands of hostile programs through the same workers; the same verdicts at every width."""

from __future__ import annotations

import random

import pytest

from harness.sandbox.outcome import MIB, Job, Limits
from tests.harness.sandbox.hostile_forms import Hostile
from tests.harness.sandbox.hostile_programs import HOSTILE
from tests.harness.sandbox.sandbox_builders import host

SLOW = ("timeout", "fail:memory", "fail:output")
FAST = [hostile for hostile in HOSTILE if not hostile.label.startswith(SLOW)]
LIMITS = Limits(cpu_s=1.0, wall_s=1.5, memory_bytes=128 * MIB)

SAME = [
    *(hostile for hostile in FAST if not hostile.name.startswith("refused")),
    Hostile(
        "under the limit", f"def solve(a, b):\n    sum(range({10**7}))\n    return a + b", "pass"
    ),
    Hostile("asleep", "import time\ndef solve(a, b): time.sleep(99)", "timeout:wall-idle"),
    Hostile("busy", "def solve(a, b):\n    while True: pass", "timeout:cpu"),
]


def job(hostile: Hostile) -> Job:
    return Job.of_tests(hostile.program, hostile.tests, "solve", limits=LIMITS)


@pytest.mark.long
@pytest.mark.parametrize("tier", ["A", "B"])
@pytest.mark.parametrize("workers", [1, 2, 6, 16])
def test_the_same_program_gets_the_same_verdict_at_every_width(workers: int, tier: str) -> None:
    programs = [hostile for hostile in SAME for _ in range(2)]
    with host(workers, tier) as sandbox:
        outcomes = sandbox.run([job(hostile) for hostile in programs])
    wrong = {
        hostile.name: outcome.label
        for hostile, outcome in zip(programs, outcomes, strict=True)
        if outcome.label not in hostile.expected(tier)
    }
    assert not wrong


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("tier", "rounds"), [("A", 20), ("B", 8)])
def test_thousands_in_random_order_leave_nothing_behind(tier: str, rounds: int) -> None:
    order = random.Random(7)
    many = FAST * 2 + [h for h in HOSTILE if h.label == "fail:protocol"] * 2
    with host(3, tier) as sandbox:
        sandbox.run([job(hostile) for hostile in many])
        before = dict(sandbox.facts)
        for _ in range(rounds):
            programs = [*many, *order.sample(HOSTILE, 8)]
            order.shuffle(programs)
            outcomes = sandbox.run([job(hostile) for hostile in programs])
            wrong = {
                hostile.name: outcome
                for hostile, outcome in zip(programs, outcomes, strict=True)
                if outcome.label not in hostile.expected(tier)
            }
            assert not wrong
        after = sandbox.facts
    assert after["descriptors"] == before["descriptors"]
    assert after["processes"] == before["processes"]
    assert after["temporary"] == []
    assert after["memory"] < 1.3 * before["memory"]
