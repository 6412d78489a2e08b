"""A failed promise takes a line back, once, and only what was judged; a kill changes none of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.registry.registry import Registry
from harness.store.store import Store
from harness.watch.rollout.actions import act
from tests.harness.watch.watch_builders import LINE, Line, hook, verdict_on

ROOT = Path(__file__).parents[3]


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path, "first", "second", "third")
    yield made
    made.store.close()


def test_a_dry_run_changes_nothing_and_says_what_would_be(line):
    verdict = verdict_on(line.digests["third"])
    for _ in range(3):
        said = act(verdict, line.registry, line.store, act=False)
    assert (said.action, said.acted) == ("rolled_back", False)
    assert said.to_digest == line.digests["second"]
    assert line.serving == "third"
    assert len(line.actions()) == 1


def test_a_dry_run_at_every_look_is_one_row_and_one_call(line):
    with hook() as (url, heard):
        for number in range(4):
            verdict = verdict_on(line.digests["third"], watch_id=f"w-{number}")
            act(verdict, line.registry, line.store, act=False, webhook=url)
    assert len(heard) == 1
    assert len(line.actions("rolled_back")) == 1


def test_it_goes_back_once_and_is_recorded_everywhere(line):
    verdict = verdict_on(line.digests["third"])
    with hook() as (url, heard):
        for _ in range(3):
            said = act(verdict, line.registry, line.store, act=True, webhook=url, actor="night")
    assert said.acted
    assert line.serving == "second"
    (row,) = line.actions("rolled_back")
    assert (row["from_digest"], row["to_digest"]) == (
        line.digests["third"],
        line.digests["second"],
    )
    assert row["watch_id"] == "w-1"
    last = line.registry.history(LINE)[-1]
    assert (last.event, last.number, last.actor) == ("rolled_back", 4, "night")
    assert "0.5 is below 0.8" in last.reason
    (told,) = [json.loads(body) for body in heard]
    assert told["event"] == "watch_rolled_back"
    assert told["signals"] == ["thumbs_up"]
    assert "secret-token" not in json.dumps(line.actions(), default=str)


def test_it_can_be_undone(line):
    act(verdict_on(line.digests["third"]), line.registry, line.store, act=True)
    line.registry.promote(LINE, line.digests["third"], override="it was the network")
    assert line.serving == "third"
    again = act(verdict_on(line.digests["third"]), line.registry, line.store, act=True)
    assert again.acted  # what the old verdict did, and not a second time
    assert line.serving == "third"


def test_who_promotes_meanwhile_wins(line):
    verdict = verdict_on(line.digests["third"])
    line.digests["fourth"] = line.promote("fourth")
    said = act(verdict, line.registry, line.store, act=True)
    assert (said.action, said.acted) == ("held", False)
    assert "is promoted by now" in said.reason
    assert line.serving == "fourth"


def test_a_verdict_from_before_says_nothing_of_a_new_promotion(line):
    before = datetime.now(UTC) - timedelta(hours=1)
    verdict = replace(verdict_on(line.digests["third"]), decided_at=before)
    said = act(verdict, line.registry, line.store, act=True)
    assert "promoted again after" in said.reason
    assert line.serving == "third"


def test_a_failure_from_before_says_nothing_of_a_new_promotion_either(line):
    verdict = verdict_on(line.digests["third"])
    (signal,) = verdict.signals
    old = replace(signal, failed_at=datetime.now(UTC) - timedelta(hours=1))
    said = act(replace(verdict, signals=(old,)), line.registry, line.store, act=True)
    assert "has not failed since" in said.reason
    assert line.serving == "third"


@pytest.mark.parametrize("outcome", ["pass", "inconclusive"])
def test_only_a_fail_takes_back(line, outcome):
    said = act(verdict_on(line.digests["third"], outcome), line.registry, line.store, act=True)
    assert said.action == "held"
    assert line.serving == "third"
    assert line.actions() == []


def test_a_first_version_that_fails_stays_and_the_webhook_says_so(tmp_path):
    line = Line(tmp_path, "only")
    with hook() as (url, heard):
        verdict = verdict_on(line.digests["only"])
        said = act(verdict, line.registry, line.store, act=True, webhook=url)
    assert "no version before" in said.reason
    assert json.loads(heard[0])["event"] == "watch_held"
    assert line.serving == "only"


def test_two_versions_in_a_row_point_at_the_server(line):
    act(verdict_on(line.digests["third"]), line.registry, line.store, act=True)
    second = verdict_on(line.digests["second"], watch_id="w-2")
    said = act(second, line.registry, line.store, act=True)
    assert said.action == "held"
    assert "the server" in said.reason
    assert line.serving == "second"
    later = replace(second, decided_at=datetime.now(UTC) + timedelta(hours=2))
    assert act(later, line.registry, line.store, act=True).acted
    assert line.serving == "first"


def test_a_broken_version_before_is_not_gone_back_to(line):
    shutil.rmtree(line.registry.path(line.digests["second"]))
    said = act(verdict_on(line.digests["third"]), line.registry, line.store, act=True)
    assert said.action == "held"
    assert "can't be gone back to" in said.reason
    assert line.serving == "third"


def test_a_webhook_that_is_down_is_tried_again(line):
    verdict = verdict_on(line.digests["third"])
    with hook(500) as (url, _):
        act(verdict, line.registry, line.store, act=True, webhook=url)
    assert [row["acted"] for row in line.actions("told")] == [False]
    with hook() as (url, heard):
        for _ in range(2):
            act(verdict, line.registry, line.store, act=True, webhook=url)
    assert len(heard) == 1
    assert [row["acted"] for row in line.actions("told")] == [False, True]


def test_two_watchers_at_once_go_back_one_step(line):
    verdict, said = verdict_on(line.digests["third"]), []

    def watch():
        with Store(line.workspace) as store:
            said.append(act(verdict, Registry(line.workspace, store), store, act=True))

    watchers = [threading.Thread(target=watch) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    assert [one.acted for one in said] == [True] * 4
    assert line.serving == "second"
    assert len(line.registry.history(LINE)) == 4
    assert len(line.actions("rolled_back")) == 1


_ACT = """
import sys
from pathlib import Path
from harness.watch.rollout.actions import act
from tests.harness.watch.watch_builders import Line, verdict_on
line = Line(Path(sys.argv[1]))
act(verdict_on(sys.argv[2]), line.registry, line.store, act=True)
"""


@pytest.mark.parametrize("fault", ["mid-rollback:1", "mid-rollback:2"])
def test_killed_before_or_after_the_pointer_moved(line, fault):
    line.store.close()
    killed = subprocess.run(
        [sys.executable, "-c", _ACT, str(line.home), line.digests["third"]],
        env={**os.environ, "RATCHET_FAULT": fault, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert line.actions() == []
    for _ in range(2):
        act(verdict_on(line.digests["third"]), line.registry, line.store, act=True)
    assert line.serving == "second"
    assert len(line.registry.history(LINE)) == 4
    (row,) = line.actions("rolled_back")
    assert row["acted"]
    assert row["detail"]["from_version"] == 3
