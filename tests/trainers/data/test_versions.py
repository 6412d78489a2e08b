"""Versions: the same rows are the same version, nothing half is left, and recipes read them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.data.datasets import Version, named_version, numbers_of, read_version
from harness.data.sources import read_source
from tests.trainers.data.pipelines import STEPS, built, pipeline
from trainers.data.build import build
from trainers.data.difference import compared
from trainers.data.pipeline import load_pipeline
from trainers.data.split import groups_of
from trainers.data.versions import write_version

BUILD = (
    "import sys; from pathlib import Path; from trainers.data.build import build;"
    "from trainers.data.pipeline import load_pipeline;"
    "from trainers.data.versions import write_version;"
    "p = load_pipeline(Path(sys.argv[1])); print('go', flush=True);"
    "write_version(p, build(p, Path(sys.argv[2])))"
)
TALK = [{"text": f"The train number {n} leaves at noon.", "day": n % 9} for n in range(90)]


def write(folder: Path, steps: Sequence[Any] = STEPS, **keys: Any) -> Version:
    made = pipeline(folder, steps, **keys)
    return write_version(made, build(made, folder / "cache"))


def test_the_same_rows_are_the_same_version(tmp_path: Path) -> None:
    places = [tmp_path / "here", tmp_path / "there"]
    for place in places:
        place.mkdir()
    first = write(places[0])
    assert write(places[0]).number == 1
    other = write(places[1])
    for name in ("train.jsonl", "valid.jsonl", "drops.jsonl", "meta.json"):
        assert (first.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_a_version_that_was_changed_is_refused(tmp_path: Path) -> None:
    version = write(tmp_path)
    (version.folder / "train.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(UserError, match=r"train\.jsonl was changed"):
        read_version(version.folder)
    with pytest.raises(UserError, match="changed"):
        read_source("dataset:support@v1", tmp_path, split="train")


def test_a_version_says_what_became_of_every_row(tmp_path: Path) -> None:
    meta = write(tmp_path).meta
    dropped = {step["step"]: step["dropped"] for step in meta["steps"]}
    assert dropped == {**dropped, "read": 3, "length": 1, "language": 1, "exact": 1}
    assert meta["steps"][0]["came"] - sum(dropped.values()) == meta["rows"]["train"] == 2
    assert meta["distribution"]["languages"] == {"en": 1, "zh": 1}


def test_examples_hold_no_personal_data(tmp_path: Path) -> None:
    version = write(tmp_path, ["clean", {"personal": {"found": "drop"}}])
    said = (version.folder / "meta.json").read_text(encoding="utf-8")
    assert "[EMAIL]" in said
    assert "ana@example" not in said


@pytest.mark.parametrize("point", ["mid-checkpoint", "before-rename"])
def test_a_kill_leaves_no_half_version(tmp_path: Path, point: str) -> None:
    path = pipeline(tmp_path).document.path
    command = [sys.executable, "-c", BUILD, str(path), str(tmp_path / "cache")]
    ended = subprocess.run(command, env={**os.environ, "RATCHET_FAULT": point}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert numbers_of(tmp_path / "datasets" / "support") == []
    made = write(tmp_path)
    assert made.number == 1
    left = sorted(path.name for path in (tmp_path / "datasets" / "support").iterdir())
    assert left == ["v1"]


@pytest.mark.long
def test_kills_at_any_moment_leave_no_half_version(tmp_path: Path) -> None:
    path = pipeline(tmp_path, ["clean", "exact"], rows=TALK * 20).document.path
    target, chance = tmp_path / "datasets" / "support", random.Random(7)
    for number in range(60):
        command = [sys.executable, "-c", BUILD, str(path), str(tmp_path / f"cache{number}")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
            assert started.stdout is not None
            started.stdout.readline()
            time.sleep(chance.uniform(0, 0.25))
            started.kill()
        for version in numbers_of(target):
            assert read_version(target / f"v{version}").meta["rows"]["train"] == 90
    loaded = load_pipeline(path)
    assert write_version(loaded, build(loaded, None)).number == 1


def test_a_recipe_names_a_version(tmp_path: Path) -> None:
    write(tmp_path)
    below = tmp_path / "recipes"
    below.mkdir()
    rows = read_source("dataset:support@v1", below, split="train")
    assert [row.row["messages"][0]["content"] for row in rows] == [
        "How do I reset it?",
        "怎么重置这个设备?",
    ]
    digest = named_version("support@v1", tmp_path).digest
    assert named_version(f"dataset:support@{digest}", below).number == 1
    assert named_version("dataset:../datasets/support@v1", below).number == 1
    assert named_version("support", below, newest=True).number == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dataset:support", r"no version[\s\S]*dataset:support@v1"),
        ("dataset:support@v2", "it has v1"),
        ("dataset:suport@v1", "did you mean 'support'"),
        ("dataset:x/support@v1", "no data set x/support"),
        ("dataset:@v1", "names no data set"),
    ],
)
def test_what_is_no_version(tmp_path: Path, name: str, says: str) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=says):
        read_source(name, tmp_path, split="train")


def test_versions_made_of_each_other_are_one_message(tmp_path: Path) -> None:
    write(tmp_path)
    child = write(tmp_path, [], source={"source": "dataset:support@v1"}, name="child")
    assert child.meta["parents"][0]["dataset"] == "support@v1"
    for path in child.folder.parent.parent.glob("support/v1/*"):
        path.unlink()
    child.folder.parent.parent.joinpath("support/v1").rmdir()
    write(tmp_path, [], source={"source": "dataset:child@v1"})
    with pytest.raises(UserError, match="made of each other: child@v1 of support@v1 of child@v1"):
        named_version("dataset:child@v1", tmp_path)


def test_what_belongs_together_stays_on_one_side(tmp_path: Path) -> None:
    version = write(tmp_path, [], rows=TALK, validation=0.3, group_by="day")
    days = [{row["day"] for _, row in version.rows(part)} for part in ("train", "valid")]
    assert not days[0] & days[1]
    assert days[0] | days[1] == set(range(9))


def test_children_stay_with_their_parent(tmp_path: Path) -> None:
    rows = built(tmp_path, [], rows=TALK).rows
    children = [row.child({"text": "another"}, "swap", 1) for row in rows[:5]]
    assert groups_of([*rows, *children], by=None)[-5:] == [0, 1, 2, 3, 4]


def test_a_split_that_leaves_nothing_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be split"):
        write(tmp_path, validation=0.01)


def test_a_difference_says_why(tmp_path: Path) -> None:
    old = write(tmp_path)
    new = write(tmp_path, ["clean", {"length": {"min": 1}}, "exact"])
    found = compared(old, new)
    assert {reason: len(rows) for reason, rows in found.came.items()} == {
        "language: the language is ru": 1,
        "length: shorter than 5 characters": 1,
    }
    assert len(found.changed) == 1
    assert (found.same, sum(map(len, found.went.values()))) == (1, 0)
    assert compared(new, old).went.keys() == found.came.keys()
    assert any(line.startswith("language: gone") for line in found.steps)
