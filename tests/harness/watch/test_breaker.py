"""The circuit breaker: it trips at once on errors now, and on nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.watch.monitor.policy import BreakerPolicy
from harness.watch.rollout.actions import act
from harness.watch.rollout.circuit_breaker import check_breaker
from tests.harness.watch.watch_builders import LINE, Line

POLICY = BreakerPolicy(window_s=60, at_least=20, errors=0.5)


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path, "first", "second")
    yield made
    made.store.close()


def answers(world, good, bad, *, at=None, **more):
    at = at or datetime.now(UTC) + timedelta(seconds=2)
    known = len(world.store.query("SELECT observation_id FROM observations"))
    world.observe(
        *(
            {
                "observation_id": f"o{known + i}",
                "observed_at": at,
                "received_at": at,
                "error": "timeout" if i < bad else None,
                **more,
            }
            for i in range(good + bad)
        )
    )
    return at + timedelta(seconds=1)


def tripped(line, now):
    return check_breaker(line.store, line.registry, LINE, POLICY, now=now)


def test_it_trips_and_the_line_goes_back(line):
    now = answers(line, good=8, bad=14, model_digest=line.digests["second"])
    verdict = tripped(line, now)
    assert verdict.kind == "breaker"
    assert "14 of 22 requests failed" in verdict.signals[0].reason
    assert act(verdict, line.registry, line.store, act=True).acted
    assert line.serving == "first"
    (row,) = line.store.query("SELECT kind, outcome FROM watch_verdicts")
    assert row == {"kind": "breaker", "outcome": "fail"}
    # From now on only what the version before answers counts.
    assert tripped(line, now) is None


def test_what_it_says_counts_requests_and_no_conversations(line):
    from rich.console import Console

    from harness.cli.watch_check import show

    console = Console(record=True, width=200)
    show(tripped(line, answers(line, good=8, bad=14)), console)
    said = console.export_text()
    assert "14 of 22 requests failed within" in said
    assert "22 observations; looked at" in said
    assert "conversations" not in said


def test_looked_at_again_it_is_one_verdict(line):
    now = answers(line, good=0, bad=20)
    first, again = tripped(line, now), tripped(line, now)
    assert first.watch_id == again.watch_id
    assert len(line.store.query("SELECT watch_id FROM watch_verdicts")) == 1


@pytest.mark.parametrize(("good", "bad"), [(0, 19), (11, 10), (40, 0)])
def test_few_errors_or_few_requests_do_not_trip_it(line, good, bad):
    assert tripped(line, answers(line, good, bad)) is None


def test_what_is_old_does_not_trip_it(line):
    now = datetime.now(UTC)
    answers(line, good=0, bad=50, at=now - timedelta(minutes=10))
    assert tripped(line, now) is None


def test_logs_of_yesterday_read_in_now_do_not_trip_it(line):
    now = datetime.now(UTC) + timedelta(seconds=5)
    yesterday = now - timedelta(days=1)
    answers(line, good=0, bad=50, at=now - timedelta(seconds=1), observed_at=yesterday)
    assert tripped(line, now) is None


def test_another_model_or_line_does_not_trip_it(line):
    answers(line, good=0, bad=30, model_digest=line.digests["first"])
    now = answers(line, good=0, bad=30, line="another")
    assert tripped(line, now) is None


def test_feedback_is_no_request(line):
    now = answers(line, good=0, bad=30, about="o0")
    assert tripped(line, now) is None
