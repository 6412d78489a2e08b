"""Processes killed at every fault point and at random moments, many times on one workspace.

After each kill the next process goes on by itself, and: no acknowledged row is lost, none is
doubled, rows of one append are there together or not at all, the promoted alias is valid,
checkpoints are whole, an import is all there or not there.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from harness.core import files as artifacts
from harness.core.fault_points import LABELS
from harness.core.workspace import Workspace
from harness.registry import lines
from harness.registry.registry import Registry
from harness.store.bundle import export_run
from harness.store.store import Store
from harness.store.tables import VERSION

LINE = "line"
ROOT = Path(__file__).parents[3]
PER_BUNDLE = 40

REACHED_BY = {
    "mid-append": ["append"],
    "mid-create": ["query"],
    "mid-drain": ["append", "respond", "query"],
    "after-commit": ["append", "query"],
    "mid-checkpoint": ["checkpoint"],
    "before-rename": ["checkpoint"],
    "mid-promotion": ["promote"],
    "mid-rollback": ["promote", "promote", "rollback"],
    "mid-import": ["bring_in", "append_bulk"],
    "mid-migration": ["query"],
}


def start_program():
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("faulty_process.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def end_program(program):
    program.stdin.close()
    program.stdout.close()
    program.wait()


class Killer:
    """A workspace, a program that works on it, and a log of what that program was promised."""

    def __init__(self, folder):
        self.workspace = Workspace.at(folder / ".ratchet")
        self.log = folder / "log.jsonl"
        self.log.touch()
        self._set_up(folder)
        self.program = start_program()

    def _set_up(self, folder):
        with Store(Workspace.at(folder / "elsewhere")) as store:
            self.bundles = [str(make_bundle(store, folder, n)) for n in range(8)]
        with Store(self.workspace) as store:
            registry = Registry(self.workspace, store)
            self.digests = []
            for word in "abcd":
                model = folder / f"model-{word}"
                model.mkdir()
                (model / "model.safetensors").write_text(word * 1000)
                self.digests.append(registry.add(model))

    def run(self, seed, *, program=None, **order):
        """One child's work, until it ends or is killed."""
        program = program or self.program
        order = {
            "seed": seed,
            "home": str(self.workspace.home),
            "log": str(self.log),
            "digests": self.digests,
            "bundles": self.bundles,
            "kill_after_s": 30.0,
            **order,
        }
        program.stdin.write(json.dumps(order) + "\n")
        program.stdin.flush()
        return json.loads(program.stdout.readline())

    @contextlib.contextmanager
    def another_program(self):
        program = start_program()
        try:
            yield program
        finally:
            end_program(program)

    def close(self):
        end_program(self.program)

    def said(self):
        """What was tried and what was acknowledged: kind -> list of what."""
        found = {}
        for text in self.log.read_text().splitlines():
            kind, what = json.loads(text)
            found.setdefault(kind, []).append(what)
        return found

    def check(self):
        """Every invariant. Opens the workspace as the next process would."""
        said = self.said()
        with Store(self.workspace) as store:
            assert store.problems() == []
            check_rows(store, said)
            check_responses(store, said)
            check_imports(store, said)
            check_line(self.workspace, store, said)
        check_checkpoints(self.workspace, said)


def make_bundle(store, folder, number):
    run = f"run-{number}"
    store.append("runs", [{"run_id": run, "protocol": {"task": "digest"}}])
    score = {"run_id": run, "task": "task", "metric": "m", "draw": 0, "outcome": "scored"}
    store.append("scores", [score | {"sample_id": str(n), "value": 1.0} for n in range(PER_BUNDLE)])
    return export_run(store, run, folder / "bundles" / run)


def check_rows(store, said):
    found = Counter(
        (row["training_id"], row["step"])
        for row in store.query("SELECT training_id, step FROM training_steps")
    )
    acknowledged = {tuple(row) for rows in said.get("ack rows", []) for row in rows}
    tried = [{tuple(row) for row in rows} for rows in said.get("try rows", [])]
    assert [row for row, n in found.items() if n > 1] == [], "doubled"
    assert acknowledged - found.keys() == set(), "lost"
    assert found.keys() - set().union(*tried) == set(), "from nowhere"
    halves = [rows for rows in tried if 0 < len(rows & found.keys()) < len(rows)]
    assert halves == [], "half an append"


def check_responses(store, said):
    found = {row["key"]: row for row in store.query("SELECT * FROM responses")}
    answered = set(said.get("ack response", []))
    assert answered - found.keys() == set(), "lost"
    assert [key for key in answered if found[key]["error"]] == [], "an answer became a failure"
    assert set(said.get("ack failure", [])) - found.keys() == set(), "lost"


def check_imports(store, said):
    found = {
        row["run_id"]: row["n"]
        for row in store.query("SELECT run_id, count(*) AS n FROM scores GROUP BY run_id")
    }
    runs = [row["run_id"] for row in store.query("SELECT run_id FROM runs")]
    assert sorted(found) == sorted(runs), "half an import, or doubled"
    assert set(found.values()) <= {PER_BUNDLE}
    assert set(said.get("ack import", [])) - set(runs) == set(), "lost"


def check_line(workspace, store, said):
    registry = Registry(workspace, store)
    promoted = registry.promoted(LINE)
    if promoted is None:
        assert "ack promotion" not in said
        return
    assert registry.verify(LINE) == []
    assert (workspace.lines / LINE / "blessed" / "model.safetensors").is_file()
    registry.reconcile(LINE)
    numbers = [version.number for version in lines.versions(workspace.lines / LINE)]
    assert numbers == list(range(1, promoted.number + 1))
    told = store.query("SELECT detail ->> '$.version' AS n FROM checkpoints WHERE line = ?", [LINE])
    assert sorted(int(row["n"]) for row in told) == numbers


def check_checkpoints(workspace, said):
    folder = workspace.trainings / "t"
    found = sorted(folder.glob("w*")) if folder.exists() else []
    assert [path for path in found if artifacts.verify(path)] == [], "half a checkpoint"
    assert set(said.get("ack checkpoint", [])) - {path.name for path in found} == set(), "lost"


@pytest.fixture
def killer(tmp_path):
    made = Killer(tmp_path)
    yield made
    made.close()


def kill_at_labels(killer, seed):
    """A kill at every label; returns how many."""
    chance = random.Random(seed)
    # Those two happen once in a workspace's life, and have tests of their own.
    labels = [label for label in REACHED_BY if label not in ("mid-create", "mid-migration")]
    for place, label in enumerate(labels):
        passage = chance.randint(1, 2)
        order = {"only": REACHED_BY[label], "acts": 40, "fault": f"{label}:{passage}"}
        assert killer.run(1000 * seed + place, **order)["killed"], label
        killer.check()
    return len(labels)


def kill_at_random(killer, seed, kills):
    """One process at a time, killed at some moment; returns how many."""
    chance = random.Random(seed)
    for number in range(kills):
        order = {"kill_after_s": chance.uniform(0.01, 0.4)}
        assert killer.run(1000 * seed + 100 + number, **order)["killed"]
        killer.check()
    return kills


def kill_a_crowd(killer, seed, rounds):
    """Three processes that work at the same time, each killed at some moment."""
    chance = random.Random(seed)
    with killer.another_program() as second, killer.another_program() as third:
        for number in range(rounds):
            answers = []

            def work(program, place, seconds, answers=answers, number=number):
                place += 1000 * seed + 500 + 10 * number
                answers.append(killer.run(place, program=program, kill_after_s=seconds))

            crowd = [
                threading.Thread(target=work, args=(program, place, chance.uniform(0.05, 0.6)))
                for place, program in enumerate((killer.program, second, third))
            ]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join()
            assert [answer["killed"] for answer in answers] == [True] * 3
            killer.check()
    return 3 * rounds


def test_every_point_of_the_harness_is_among_those():
    sources = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    marked = set(re.findall(r'fault_point\("([a-z-]+)"\)', sources))
    # A push in the middle has tests of its own, with a place to push to.
    assert marked - {"mid-push"} <= REACHED_BY.keys() <= set(LABELS)


def test_kills_at_every_label_and_at_random_moments(killer):
    kills = kill_at_labels(killer, seed=1)
    kills += kill_at_random(killer, 1, kills=16)
    kills += kill_a_crowd(killer, 1, rounds=4)
    assert kills == 36  # and four more in the tests below
    assert len(killer.said()["ack rows"]) > 20


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_hundreds_of_kills(killer):
    kills = 0
    for seed in range(2, 6):
        kills += kill_at_labels(killer, seed)
        kills += kill_at_random(killer, seed, kills=27)
        kills += kill_a_crowd(killer, seed, rounds=5)
    assert kills == 200


def test_a_kill_while_the_database_is_made(tmp_path):
    killer = Killer(tmp_path)
    home = Workspace.at(tmp_path / "fresh")
    order = {"home": str(home.home), "only": ["query"], "acts": 1}
    assert killer.run(1, fault="mid-create", **order)["killed"]
    assert not home.database.exists()
    assert not killer.run(2, **order)["killed"]
    assert home.database.exists()
    killer.close()


@pytest.mark.parametrize("passage", [1, 4, 6])
def test_a_kill_in_mid_migration(killer, passage):
    killer.run(1, only=["append"], acts=5)
    fault = f"mid-migration:{passage}"
    assert killer.run(2, migrate=True, only=["query"], fault=fault)["killed"]
    killer.check()  # the old version still reads it: nothing of the migration is in
    assert killer.run(3, migrate=True, only=["append", "query"], acts=3)["status"] == 0
    with duckdb.connect(str(killer.workspace.database), read_only=True) as plain:
        versions = plain.execute("SELECT version FROM schema_version ORDER BY 1").fetchall()
        assert versions == [(VERSION,), (VERSION + 1,)]
        plain.execute("SELECT note_4 FROM runs").fetchall()
        [(rows,)] = plain.execute("SELECT count(*) FROM training_steps").fetchall()
    assert rows >= len([r for rows in killer.said()["ack rows"] for r in rows])


def test_two_processes_promote_at_once_and_readers_always_see_a_whole_model(killer):
    order = {"only": ["promote", "rollback"], "acts": 4}
    line = killer.workspace.lines / LINE
    answers = []
    with killer.another_program() as second:
        waiting = [
            threading.Thread(target=lambda p=program, n=seed: answers.append(ask(p, n)))
            for seed, program in enumerate((killer.program, second))
        ]

        def ask(program, seed):
            return killer.run(seed, program=program, **order)

        for thread in waiting:
            thread.start()
        looks = 0
        while any(thread.is_alive() for thread in waiting):
            time.sleep(0.001)
            if looks or (line / "blessed").exists():
                assert len((line / "blessed" / "model.safetensors").read_text()) == 1000
                assert json.loads((line / "blessed.json").read_text())["digest"] in killer.digests
                looks += 1
        for thread in waiting:
            thread.join()
    assert [answer["status"] for answer in answers] == [0, 0]
    assert looks > 0
    killer.check()
