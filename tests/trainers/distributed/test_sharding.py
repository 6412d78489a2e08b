"""ZeRO-2 and ZeRO-3 on two processes of a CPU: judged, rolled back and killed like any training.

DeepSpeed lives in an environment of its own beside ours, made here on first use: where it is
installed, other libraries import it, and it would weigh on every start.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.fault_points import FAULT_VARIABLE
from harness.core.files import sha256_of_file, verify
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.distributed import torchrun_process as ranked
from tests.trainers.distributed.torchrun_process import ALIKE, begin_without, launch, world_of
from tests.trainers.method_builders import stage_of, write_method_world, write_stages
from tests.trainers.recipe_builders import write_world
from trainers.config.load import load_recipe
from trainers.distributed.sharding import require_sharding

OWN = Path(__file__).parents[3] / ".venv-deepspeed"
PACKAGES = ("deepspeed", "hjson", "ninja", "msgpack", "py-cpuinfo", "einops", "nvidia-ml-py")


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has DeepSpeed, and everything that this one has."""
    if importlib.util.find_spec("deepspeed") is not None:
        return sys.executable
    interpreter = OWN / "bin" / "python"
    if not (OWN / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(OWN)], check=True)
        here = sysconfig.get_paths()["purelib"]
        [there] = (OWN / "lib").glob("python*/site-packages")
        (there / "ours.pth").write_text(here + "\n", encoding="utf-8")
        # Without its dependencies: it would bring a torch of its own.
        words = [str(interpreter), "-m", "pip", "install", "-q", "--no-deps", *PACKAGES]
        environment = {**os.environ, "DS_BUILD_OPS": "0"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"DeepSpeed can't be installed: {done.stderr.strip()[-300:]}")
        (OWN / "ready").touch()
    return str(interpreter)


def run(
    folder: Path, python: str, how: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return launch(folder, python=python, options=("--shard", how), environment=environment)


def end(folder: Path, last: int = 12) -> tuple[dict[str, Any], str]:
    """The training's state, and the digest of its last weights."""
    [home] = (folder / "home" / "trainings").iterdir()
    kept = home / "checkpoints"
    assert all(verify(step) == [] for step in kept.iterdir())
    state = json.loads((home / "state.json").read_text(encoding="utf-8"))
    return state, sha256_of_file(kept / f"step-{last:06d}" / "model.safetensors")


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("how", ["zero2", "zero3"])
def test_going_back_is_exact_and_survives_a_kill(
    tmp_path: Path, tiny_llama: Path, python: str, how: str
) -> None:
    ends = []
    for name in ("back", "clean", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        write_world(folder, tiny_llama)
        if name == "clean":
            begin_without(folder, (3,))
        if name == "killed":
            died = run(folder, python, how, **{FAULT_VARIABLE: "before-judgement:3"})
            assert died.returncode != 0
        done = run(folder, python, how)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        state, digest = end(folder)
        assert (state["status"], state["dropped"]) == ("finished", [3])
        assert state["rollbacks"] == (0 if name == "clean" else 1)
        ends.append(digest)
    assert ends[0] == ends[1] == ends[2]
    # The state is in two parts, and the scripts that DeepSpeed leaves are not part of the model.
    [home] = (tmp_path / "back" / "home" / "trainings").iterdir()
    last = home / "checkpoints" / "step-000012"
    assert len(list(last.glob("global_step12/*optim_states.pt"))) == 2
    assert not list(last.glob("*.py"))
    assert (tmp_path / "back/home/lines/tiny/blessed/model.safetensors").exists()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_adapter_under_zero3_learns_at_the_lower_rate_it_is_given(
    tmp_path: Path, tiny_llama: Path, python: str
) -> None:
    path = write_world(tmp_path, tiny_llama, adapter={"rank": 8, "alpha": 32}, talk=False)
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["gate"]["on_fail"] = ["lower_lr", "skip_data"]
    raw["health"] = {"loss": {"falls_by": 0.1, "then": "lower_lr"}}
    raw["gate"]["max_rollbacks"] = 1
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = run(tmp_path, python, "zero3")
    # Its loss falls, which that rule takes for a fault; once lowered, the rate stays low.
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    with Store(Workspace.at(tmp_path / "home")) as store:
        rows = store.query("SELECT attempt, step, learning_rate FROM training_steps")
    rates = {(row["attempt"], row["step"]): row["learning_rate"] for row in rows}
    assert rates[2, 5] == pytest.approx(rates[1, 5] / 2)
    assert rates[2, 6] == pytest.approx(rates[1, 6] / 2)


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("how", ["zero2", "zero3"])
def test_every_trainer_goes_back_exactly(
    tmp_path: Path, tiny_llama: Path, python: str, how: str
) -> None:
    trainers = ("reward", "dpo", "kto", "ppo", "grpo", "rloo")
    worlds = {
        (trainer, what): world_of(tmp_path / f"{trainer}-{what}", tiny_llama, trainer)
        for trainer in trainers
        for what in ("back", "clean")
    }
    ranked.train_in_two([(path, what) for (_, what), path in worlds.items()], how, python=python)
    for trainer in trainers:
        kept = ranked.checkpoints(worlds[trainer, "back"])
        assert kept == ranked.checkpoints(worlds[trainer, "clean"]), trainer
        assert len(set(kept.values())) == 4
    for trainer in ALIKE:
        alone = world_of(tmp_path / f"{trainer}-alone", tiny_llama, trainer)
        ranked.train(alone, "clean", None)
        cut_up = ranked.losses(worlds[trainer, "clean"])
        assert len(cut_up) == 6
        assert cut_up == pytest.approx(ranked.losses(alone), rel=1e-3, abs=1e-5), trainer


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_whole_models_that_no_process_has_go_back_and_are_held_to_a_reference(
    tmp_path: Path, tiny_llama: Path, python: str
) -> None:
    whole = {"adapter": {"kind": "none"}}
    worlds = [
        write_method_world(tmp_path / trainer, tiny_llama, trainer, **whole)
        for trainer in ("reward", "dpo", "kto", "grpo", "rloo")
    ]
    safety = {"safety": {"words": ["a", "o", "t"], "tries": 3}}
    for trainer in ("grpo", "ppo"):
        folder = tmp_path / f"guarded-{trainer}"
        worlds.append(write_method_world(folder, tiny_llama, trainer, stage=safety))
    ranked.train_in_two([(path, "back") for path in worlds], "zero3", python=python)
    for path in worlds:
        assert len(set(ranked.checkpoints(path).values())) == 4, path


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_stages_follow_one_another_cut_up(tmp_path: Path, tiny_llama: Path, python: str) -> None:
    """The reward model of one stage is whole in every process of the next."""
    helpful = {"kind": "model", "path": "stage:helpful"}
    texts = {"seed": 3, "mix": [{"source": "heldout.jsonl", "weight": 1, "text": "{{ text }}"}]}
    write_stages(
        tmp_path,
        tiny_llama,
        stage_of("sft", learning_rate=0.03, data=texts),
        stage_of(
            "reward",
            name="helpful",
            steps=24,
            checkpoint_every=12,
            learning_rate=0.02,
            gate={"suite": "pairs.yaml"},
        ),
        stage_of("ppo", steps=4, learning_rate=3e-4, rewards=[helpful]),
        adapter={"rank": 8, "alpha": 32},
    )
    done = run(tmp_path, python, "zero3")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with Store(Workspace.at(tmp_path / "home")) as store:
        rows = store.query(
            "SELECT detail FROM training_events WHERE event = 'rewards' ORDER BY happened_at"
        )
    assert len(rows) == 4
    assert rows[0]["detail"]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows[-1]["detail"]["kl"] > 0


@pytest.mark.parametrize(
    ("trainer", "how", "world", "says"),
    [
        ("sft", "zero2", "1", "there is one process"),
        ("ppo", "fsdp", "2", "ppo draws answers from the model"),
        ("sft", "fsdp", "2", "FSDP needs GPUs"),
        ("sft", "zero3", "2", "DeepSpeed is not installed"),
    ],
)
def test_what_cannot_be_cut_up_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trainer: str,
    how: str,
    world: str,
    says: str,
) -> None:
    import torch

    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "deepspeed" else find(name, *a),
    )
    path = write_method_world(tmp_path, Path("nowhere"), trainer)
    assert main(["train", str(path), "--shard", how, "--home", str(tmp_path / "home")]) == 3
    shown = capsys.readouterr()
    assert says in " ".join((shown.err + shown.out).split())


def test_ewc_needs_whole_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    loss = {"ewc": {"weight": 5.0, "source": "pairs.jsonl", "samples": 4}}
    path = write_method_world(tmp_path, Path("nowhere"), "sft", stage={"loss": loss})
    with pytest.raises(UserError, match="EWC holds each weight"):
        require_sharding(load_recipe(path), "zero3")


def test_one_process_shares_with_nobody(tmp_path: Path) -> None:
    recipe = load_recipe(write_method_world(tmp_path, Path("nowhere"), "sft"))
    require_sharding(recipe, None)
    with pytest.raises(UserError, match="one process"):
        require_sharding(recipe, "zero2")
