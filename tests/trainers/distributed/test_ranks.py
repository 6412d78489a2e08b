"""Two processes train one recipe: rank 0 judges, both go back together, bit-exactly."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.errors import UserError
from tests.trainers.distributed import torchrun_process as ranked
from tests.trainers.distributed.torchrun_process import ALIKE, begin_without, launch, world_of
from tests.trainers.method_builders import write_method_world
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import weights
from trainers.config.load import load_recipe
from trainers.distributed.ranks import PATIENCE_S, Ranks
from trainers.methods.preference import KTO, Mismatched, Neighbours
from trainers.methods.trainer_arguments import per_process

ROOT = Path(__file__).parents[3]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_processes_roll_back_together(tmp_path: Path, tiny_llama: Path) -> None:
    ends = []
    for name in ("back", "clean"):
        folder = tmp_path / name
        folder.mkdir()
        write_world(folder, tiny_llama)
        if name == "clean":
            begin_without(folder, (3,))
        done = launch(folder)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        [home] = (folder / "home" / "trainings").iterdir()
        state = json.loads((home / "state.json").read_text(encoding="utf-8"))
        assert state["status"] == "finished"
        assert state["rollbacks"] == (1 if name == "back" else 0)
        assert state["dropped"] == [3]
        last = home / "checkpoints" / "step-000012"
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.name for file in last.iterdir()}
        ends.append(weights(last))
    assert ends[0] == ends[1]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_trainer_goes_back_in_two_processes_and_learns_as_in_one(
    tmp_path: Path, tiny_llama: Path
) -> None:
    trainers = (*ALIKE, "grpo", "rloo")
    worlds = {
        (trainer, what): world_of(tmp_path / f"{trainer}-{what}", tiny_llama, trainer)
        for trainer in trainers
        for what in ("back", "clean")
    }
    ranked.train_in_two([(path, what) for (_, what), path in worlds.items()])
    for trainer in trainers:
        kept = ranked.checkpoints(worlds[trainer, "back"])
        assert kept == ranked.checkpoints(worlds[trainer, "clean"]), trainer
        assert len(set(kept.values())) == 4
    for trainer in ALIKE:
        alone = world_of(tmp_path / f"{trainer}-alone", tiny_llama, trainer)
        ranked.train(alone, "clean", None)
        in_two = ranked.losses(worlds[trainer, "clean"])
        assert len(in_two) == 6
        assert in_two == pytest.approx(ranked.losses(alone), rel=1e-3, abs=1e-5), trainer
        there, here = ranked.figures(worlds[trainer, "clean"]), ranked.figures(alone)
        for one, other in zip(there, here, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4), trainer


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("value", ["1 / 0", "[float('nan')] * len(completions)"])
def test_a_reward_that_fails_in_another_process_is_said_once_and_ends_both(
    tmp_path: Path, tiny_llama: Path, value: str
) -> None:
    program = (
        "import os\ndef mine(completions, **kw):\n"
        f"    if os.environ['RANK'] == '1':\n        return {value}\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    (tmp_path / "mine.py").write_text(program, encoding="utf-8")
    stage = {"rewards": [{"kind": "function", "path": "mine.py:mine"}]}
    write_method_world(tmp_path, tiny_llama, "grpo", stage=stage)
    done = launch(tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert said.count("error: the reward 'function'") == 1, said[-3000:]
    assert "defect" not in said
    assert "crashed" not in said


def test_every_process_waits_long_for_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    given: dict[str, object] = {}

    class Two:
        num_processes = 2
        process_index = 0

        def __init__(self, **words: object) -> None:
            given.update(words)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", Two)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    assert Ranks.here() == Ranks(0, 2)
    assert given["timeout"] == timedelta(seconds=PATIENCE_S)


def test_kto_pairs_rows_of_one_batch_however_many_share_it() -> None:
    order = [5, 3, 8, 1, 7, 2, 6, 4]
    pairs = list(Neighbours(lambda: order, 4))
    assert pairs == [(5, 1), (3, 5), (8, 3), (1, 8), (7, 4), (2, 7), (6, 2), (4, 6)]
    rows = [{"completion_ids": [i], "KL_completion_ids": [-1]} for i in range(9)]
    row = Mismatched(rows)[pairs[0]]
    assert row == {"completion_ids": [5], "KL_completion_ids": [1]}


def test_kto_asks_for_two_rows_a_process(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = load_recipe(write_method_world(tmp_path, tiny_llama, "kto", stage={"batch_size": 2}))
    with pytest.raises(UserError, match="leaves a process one row"):
        KTO.make(SimpleNamespace(recipe=recipe, stage=recipe.stages[0]))  # type: ignore[arg-type]


def test_a_launcher_that_starts_too_few_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --cpu --num_processes 2` does so: the variable says 2, and one is here."""
    import accelerate

    class Alone:
        num_processes = 1
        process_index = 0

        def __init__(self, **_: object) -> None: ...

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", Alone)
    with pytest.raises(UserError, match="2 processes were to train together, and 1 found") as found:
        Ranks.here()
    assert "torchrun" in str(found.value.hint)


def test_a_batch_that_processes_cannot_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(write_world(tmp_path, Path("nowhere")))
    assert per_process(recipe, 4) == 4
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert per_process(recipe, 4) == 2
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="can't be shared evenly by 3"):
        per_process(recipe, 4)


@pytest.mark.parametrize(
    "said",
    [
        "[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]",
        "Connection reset by peer",
        "Broken pipe",
    ],
)
def test_a_process_that_loses_another_says_that_it_is_not_to_blame(said: str) -> None:
    with pytest.raises(UserError, match="another one has ended"), Ranks(0, 2).losing_none():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError), Ranks().losing_none():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shape"), Ranks(0, 2).losing_none():
        raise RuntimeError("shape mismatch")
