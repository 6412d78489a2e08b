"""Every hostile program gets its verdict, in every tier that holds here."""

from __future__ import annotations

from functools import cache

import pytest

from harness.sandbox.outcome import Job, Outcome
from tests.harness.sandbox.hostile_forms import Hostile
from tests.harness.sandbox.hostile_programs import HOSTILE
from tests.harness.sandbox.sandbox_builders import QUICK, host


def job(hostile: Hostile) -> Job:
    return Job.of_tests(hostile.program, hostile.tests, "solve", limits=QUICK)


@cache
def outcomes(tier: str) -> dict[str, Outcome]:
    with host(4, tier) as sandbox:
        ran = sandbox.run([job(hostile) for hostile in HOSTILE])
    return dict(zip([hostile.name for hostile in HOSTILE], ran, strict=True))


def test_there_are_enough_hostile_programs() -> None:
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 60


@pytest.mark.parametrize("tier", ["A", "B"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_each_hostile_program_gets_its_verdict(hostile: Hostile, tier: str) -> None:
    outcome = outcomes(tier)[hostile.name]
    assert outcome.label in hostile.expected(tier), outcome
    assert outcome.verdict == "split"
    assert outcome.tier == tier
