"""A candidate gets more traffic only by passing, is out at once where it fails, and nothing is
concluded from a split that was not kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.statistics.sequential import Moments
from harness.watch.monitor.policy import SignalPolicy, WatchPolicy
from harness.watch.monitor.signals import BY_NAME
from harness.watch.rollout import ramp as ramps
from harness.watch.rollout import traffic_split as splits
from harness.watch.rollout.canary import Arm, compare
from tests.harness.watch.watch_builders import LINE, Line, hook

ROOT = Path(__file__).parents[3]
POLICY = WatchPolicy(
    settle_s=0.0,
    signals=dict.fromkeys(BY_NAME, False) | {"completion": SignalPolicy(required=True)},
)
RAMP = (0.3, 0.5, 1.0)


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path, "first", "second")
    made.digests["new"] = made.add("new")
    yield made
    made.store.close()


def begin(line, **more):
    settings = {"act": True, "ramp": RAMP, "override": "for the test", **more}
    return ramps.begin(line.store, line.registry, LINE, line.digests["new"], **settings)


def traffic(line, count, *, share=None, good=(0.9, 0.9), seed=1, **more):
    """Conversations sent by the split; `good` is completion in the promoted and candidate arm."""
    split = ramps.current(line.store, LINE)
    draw = np.random.default_rng(seed)
    arms = (draw.random(count) < (split.share if share is None else share)).astype(int)
    ended = draw.random(count) < np.asarray(good)[arms]
    known = line.store.query("SELECT count(*) AS n FROM observations")[0]["n"]
    now = datetime.now(UTC)
    line.observe(
        *(
            {
                "observation_id": f"o{known + i}",
                "conversation_id": f"c{known + i}",
                "model_digest": (split.promoted, split.candidate)[arm],
                "outcome": "completed" if done else "abandoned",
                "response": "fine",
                "observed_at": now,
                **more,
            }
            for i, (arm, done) in enumerate(zip(arms.tolist(), ended.tolist(), strict=True))
        )
    )


def advance(line, **more):
    later = datetime.now(UTC) + timedelta(seconds=1)
    settings = {"act": True, "now": later, **more}
    return ramps.advance(line.store, line.registry, LINE, POLICY, **settings)


def folder(line):
    return line.workspace.lines / LINE


def test_it_climbs_step_by_step_and_is_promoted(line):
    begin(line)
    assert (folder(line) / "candidate").samefile(line.registry.path(line.digests["new"]))
    traffic(line, 3_000, good=(0.9, 0.96))
    first = advance(line)
    assert first.verdict.outcome == "pass", first.verdict.signals
    assert first.split.share == 0.5
    assert advance(line).verdict.outcome == "inconclusive"  # what came before counts no more
    traffic(line, 3_000, good=(0.9, 0.96), seed=2)
    last = advance(line)
    assert last.split.ended == "promoted"
    assert line.serving == "new"
    assert not (folder(line) / "candidate").exists()
    assert "candidate" not in (folder(line) / "split.nginx.conf").read_text().split("{")[1]
    told = [(row["action"], row["detail"]["share"]) for row in line.actions()]
    assert told == [("ramped", 0.3), ("ramped", 0.5), ("ramped", 0.0)]
    kinds = line.store.query("SELECT DISTINCT kind FROM watch_verdicts")
    assert kinds == [{"kind": "canary"}]


def test_a_worse_candidate_is_out(line):
    begin(line)
    traffic(line, 3_600, good=(0.9, 0.6))
    with hook() as (url, heard):
        gone = advance(line, webhook=url)
    assert gone.verdict.outcome == "fail"
    assert (gone.split.ended, gone.split.share) == ("failed", 0.0)
    assert line.serving == "second"
    assert "completion" in gone.action.reason
    assert json.loads(heard[0])["event"] == "watch_rolled_back"
    assert advance(line).action.reason == "the canary is over: failed"
    begin(line)  # another may begin


def test_a_dry_run_moves_nothing(line):
    _, action = begin(line, act=False)
    assert not action.acted
    assert not (folder(line) / "split.json").exists()
    begin(line)
    before = (folder(line) / "split.json").read_bytes()
    traffic(line, 3_600, good=(0.9, 0.6))
    assert advance(line, act=False).verdict.outcome == "fail"
    assert (folder(line) / "split.json").read_bytes() == before


def test_a_split_that_was_not_kept_says_nothing(line):
    begin(line)
    traffic(line, 3_600, share=0.25)
    held = advance(line)
    assert held.verdict.outcome == "inconclusive"
    assert "were meant" in held.action.reason
    assert held.split.step == 0


def test_a_candidate_without_answers_is_noticed(line):
    begin(line)
    traffic(line, 300, share=0.0)
    assert "had 0 of 300" in advance(line).action.reason


def test_conversations_in_both_arms_say_nothing(line):
    begin(line)
    traffic(line, 2_000, **{"conversation_id": None})
    for arm in ("second", "new"):
        line.observe(
            *(
                {
                    "observation_id": f"{arm}{i}",
                    "conversation_id": f"both{i}",
                    "model_digest": line.digests[arm],
                    "outcome": "completed",
                    "observed_at": datetime.now(UTC),
                }
                for i in range(100)
            )
        )
    assert "answered by both" in advance(line).action.reason


def test_the_breaker_does_not_wait(line):
    begin(line)
    traffic(line, 30, share=1.0, error="timeout")
    gone = advance(line)
    assert (gone.verdict.kind, gone.split.ended) == ("breaker", "failed")


def test_who_promotes_meanwhile_ends_it(line):
    begin(line)
    line.digests["other"] = line.promote("other")
    over = advance(line)
    assert over.split.ended == "something else was promoted meanwhile"
    assert over.verdict is None
    assert line.serving == "other"


def test_two_lines_side_by_side(line):
    line.registry.promote("sibling", line.digests["new"])
    begin(line, other="sibling", ramp=(0.5,))
    split = ramps.current(line.store, LINE)
    assert not (folder(line) / "candidate").exists()
    draw = np.random.default_rng(3)
    later = datetime.now(UTC) + timedelta(milliseconds=1)
    line.store.append(
        "observations",
        [
            {
                "observation_id": f"o{i}",
                "line": ("sibling", LINE)[int(draw.random() < 0.5)],
                "outcome": "completed" if draw.random() < 0.9 else "abandoned",
                "observed_at": later,
                "received_at": later,
            }
            for i in range(5_000)
        ],
    )
    stayed = advance(line)
    assert stayed.verdict.outcome == "pass"
    assert "up to you" in stayed.action.reason
    assert split.compared == 1
    assert line.serving == "second"


def test_what_a_canary_serves_is_not_pruned(line):
    begin(line)
    line.digests["other"] = line.promote("other")
    kept = dict(line.registry.prune(keep=1).kept)
    assert "a canary runs with it" in kept[line.digests["new"]]
    advance(line)
    assert line.digests["new"] not in dict(line.registry.prune(keep=1).kept)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"override": None}, "the gate has not passed"),
        ({"ramp": (0.5, 0.1)}, "is not a ramp"),
        ({"ramp": (1.0,)}, "is not a ramp"),
        ({"ramp": ()}, "is not a ramp"),
    ],
)
def test_what_can_not_begin(line, more, message):
    with pytest.raises(UserError, match=message):
        begin(line, **more)
    assert ramps.current(line.store, LINE) is None


def test_two_at_once_are_refused_and_abort_ends_one(line):
    begin(line)
    with pytest.raises(UserError, match="runs on"):
        begin(line)
    over = ramps.abort(line.store, LINE, act=True)
    assert over.split.ended == "aborted"
    with pytest.raises(UserError, match="no canary runs"):
        ramps.abort(line.store, LINE, act=True)


def test_the_gates_pass_is_what_it_stands_on(line):
    line.store.append("verdicts", [{"verdict_id": "v1", "outcome": "pass", "headline": "fine"}])
    split, _ = begin(line, override=None, verdict_id="v1")
    assert split.verdict_id == "v1"


def test_an_identical_candidate_rarely_fails_however_often_one_looks():
    draw, failed, passed = np.random.default_rng(11), 0, 0
    for _ in range(30):
        sides = [draw.random(3_000) < 0.85 for _ in range(2)]
        looks = []
        for n in range(300, 3_001, 540):
            arms = [
                Arm(name, name, 0.5, n, n, {"completion": Moments.of(side[:n])})
                for name, side in zip(("blessed", "candidate"), sides, strict=True)
            ]
            (signal,) = compare(*arms, POLICY, steps=1)
            looks.append(signal.outcome)
        failed += "fail" in looks
        passed += looks[-1] == "pass"
    assert failed == 0
    assert passed >= 10


_ADVANCE = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from harness.watch.rollout import ramp as ramps
from tests.harness.watch.test_canary import POLICY
from tests.harness.watch.watch_builders import LINE, Line
line = Line(Path(sys.argv[1]))
now = datetime.now(UTC) + timedelta(seconds=1)
ramps.advance(line.store, line.registry, LINE, POLICY, act=True, now=now)
"""


@pytest.mark.long
def test_killed_while_it_is_promoted(line):
    begin(line, ramp=(0.5, 1.0))
    traffic(line, 5_000)
    line.store.close()
    killed = subprocess.run(
        [sys.executable, "-c", _ADVANCE, str(line.home)],
        env={**os.environ, "RATCHET_FAULT": "mid-promotion:2", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    ended = advance(line)
    assert ended.split.ended == "promoted"
    assert line.serving == "new"
    assert len(line.registry.history(LINE)) == 3
    assert [row["detail"]["ended"] for row in line.actions("ramped")] == [None, "promoted"]


def test_a_record_lost_to_a_kill_is_written_and_sent_later(line):
    split, _ = begin(line)
    at = datetime.now(UTC).isoformat()
    splits.write(folder(line), splits.Split(**{**_fields(split), "step": 1, "at": at}))
    (folder(line) / "split.nginx.conf").unlink()
    ramps.current(line.store, LINE)
    assert [row["detail"]["step"] for row in line.actions("ramped")] == [0, 1]
    assert "50.00%" in (folder(line) / "split.nginx.conf").read_text()


def _fields(split):
    return {name: getattr(split, name) for name in split.__slots__}


# The files that servers follow.


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("over", [False, True])
def test_nginx_takes_what_is_written_and_what_the_docs_say(line, tmp_path, over):
    begin(line, ramp=(0.0025, 0.5))
    if over:
        ramps.abort(line.store, LINE, act=True)
    page = (ROOT / "docs/canary.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```nginx\n(.*?)```", page, re.S)
    included = str(folder(line) / "split.nginx.conf")
    example, count = re.subn(r"include \S*split\.nginx\.conf;", f"include {included};", example)
    assert count == 1
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{example}\n}}\n")
    checked = subprocess.run(
        ["nginx", "-t", "-q", "-e", str(tmp_path / "error.log"), "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_envoys_weights_add_up(line):
    begin(line, ramp=(0.0025, 0.5))
    found = json.loads((folder(line) / "split.envoy.json").read_text())
    (resource,) = found["resources"]
    clusters = resource["virtual_hosts"][0]["routes"][0]["route"]["weighted_clusters"]["clusters"]
    assert {c["name"]: c["weight"] for c in clusters} == {
        "support-bot-candidate": 25,
        "support-bot-blessed": 9975,
    }
