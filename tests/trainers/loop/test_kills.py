"""SIGKILL at labelled points and at random moments: the same command goes on to the same end.

Only processes that this test started are killed, by themselves or by their PID.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.core.files import sha256_of_file, verify
from tests.trainers.method_builders import TEMPLATES, stage_of, write_method_world
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import STATE_FILES, WEIGHT_FILES
from tests.trainers.warm_process import Warm, start


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as warm:
        yield warm


def finish(warm: Warm, folder: Path) -> tuple[dict[str, object], str]:
    """Run to the end; returns the training's state and the last checkpoint's digest."""
    code = start(warm, folder).wait(timeout=240)
    assert code == 0, (folder / "out.txt").read_text(errors="replace")
    [home] = (folder / "home" / "trainings").iterdir()
    kept = home / "checkpoints"
    assert all(verify(step) == [] for step in kept.iterdir())
    state = json.loads((home / "state.json").read_text(encoding="utf-8"))
    return state, sha256_of_file(kept / "step-000012" / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, warm: Warm
) -> tuple[dict[str, object], str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_world(folder, tiny_llama)
    return finish(warm, folder)


def assert_the_same(
    found: tuple[dict[str, object], str], wanted: tuple[dict[str, object], str], folder: Path
) -> None:
    assert found[1] == wanted[1]
    for key in ("status", "best_checkpoint", "dropped", "rollbacks", "attempt"):
        assert found[0][key] == wanted[0][key]
    promoted = folder / "home" / "lines" / "tiny" / "blessed"
    assert (promoted / "model.safetensors").exists()


@pytest.mark.parametrize(
    "fault",
    [
        "before-judgement:3",
        "before-rollback",
        pytest.param("mid-checkpoint:2", marks=pytest.mark.long),
        pytest.param("before-rename:4", marks=pytest.mark.long),
        pytest.param("mid-rejection", marks=pytest.mark.long),
        pytest.param("before-judgement:1", marks=pytest.mark.long),
        pytest.param("mid-promotion", marks=pytest.mark.long),
        pytest.param("mid-append:40", marks=pytest.mark.long),
        pytest.param("mid-drain:5", marks=pytest.mark.long),
    ],
)
def test_killed_at_a_labelled_point(
    tmp_path: Path,
    tiny_llama: Path,
    warm: Warm,
    undisturbed: tuple[dict[str, object], str],
    fault: str,
) -> None:
    write_world(tmp_path, tiny_llama)
    assert start(warm, tmp_path, fault).wait(timeout=240) == -9
    assert_the_same(finish(warm, tmp_path), undisturbed, tmp_path)


@pytest.mark.long
def test_killed_at_random_moments(
    tmp_path: Path, tiny_llama: Path, warm: Warm, undisturbed: tuple[dict[str, object], str]
) -> None:
    """Killed again and again, later each time, until it gets through by itself."""
    write_world(tmp_path, tiny_llama)
    chance = random.Random(20261122)
    kills = 0
    for patience in range(1, 30):
        process = start(warm, tmp_path)
        try:
            assert process.wait(timeout=chance.uniform(0.3, 0.3 + patience / 3)) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=60)
            kills += 1
    assert kills >= 3
    assert_the_same(finish(warm, tmp_path), undisturbed, tmp_path)


def pipeline(folder: Path, base: Path) -> Path:
    """Full fine-tuning, then preferences: two trainings in the store, one after the other."""
    texts = {"source": "heldout.jsonl", "weight": 1, "text": "{{ text }}"}
    first = stage_of("sft", learning_rate=0.03, data={"seed": 3, "mix": [texts]})
    pairs = {"source": "pairs.jsonl", "weight": 1, **TEMPLATES["dpo"]}
    second = stage_of("dpo", learning_rate=1e-4, data={"seed": 3, "mix": [pairs]})
    path = write_method_world(folder, base, "sft", adapter={"kind": "none"})
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["stages"] = [first, second]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def states(warm: Warm, folder: Path) -> dict[str, dict[str, str]]:
    """Of every training of the folder: digests of all that its last checkpoint carries on."""
    code = start(warm, folder).wait(timeout=240)
    assert code == 0, (folder / "out.txt").read_text(errors="replace")
    found = {}
    for home in sorted((folder / "home" / "trainings").iterdir()):
        last = home / "checkpoints" / "step-000006"
        assert verify(last) == []
        files = [*STATE_FILES, *(n for n in WEIGHT_FILES if (last / n).exists())]
        found[home.name] = {name: sha256_of_file(last / name) for name in files}
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("trainer", "fault"),
    [
        ("grpo", "before-judgement:3"),
        ("rloo", "mid-checkpoint:3"),
        ("ppo", "before-judgement:3"),
        ("ppo", "before-rename:3"),
        # The second stage's first checkpoint after its start; and what it starts from.
        ("pipeline", "before-judgement:6"),
        ("pipeline", "mid-checkpoint:5"),
    ],
)
def test_killed_in_reinforcement_or_in_a_second_stage(
    tmp_path: Path, tiny_llama: Path, warm: Warm, trainer: str, fault: str
) -> None:
    ends = []
    for name in ("whole", "killed"):
        if trainer == "pipeline":
            pipeline(tmp_path / name, tiny_llama)
        else:
            write_method_world(tmp_path / name, tiny_llama, trainer)
        if name == "killed":
            assert start(warm, tmp_path / name, fault).wait(timeout=240) == -9
        ends.append(states(warm, tmp_path / name))
    assert len(ends[0]) == (2 if trainer == "pipeline" else 1)
    assert ends[0] == ends[1]
