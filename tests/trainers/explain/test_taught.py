"""A failed checkpoint's rows: named by file and line, left out by `skip_rows`, or refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.recipe_builders import GOOD, RUBBISH, edit, write_world
from tests.trainers.training_driver import STATE_FILES, Quiet, everything, weights
from trainers.checkpoints.state import TrainingState, load_state, save_state
from trainers.config.data_plan import without_rows
from trainers.config.load import load_recipe
from trainers.explain.taught import require_explained
from trainers.loop.explained import Explained, explain_rows
from trainers.loop.gated_training import GatedTraining


def mixed_world(folder: Path, base: Path, **gate: object) -> Path:
    """As `write_world`, in segments of 24 rows, and two of the third one's are good."""
    path = write_world(folder, base, talk=False, **gate)
    edit(path, "stages", 0, "steps", value=24)
    edit(path, "stages", 0, "checkpoint_every", value=6)
    return edit(path, "data", "mix", 1, "weight", value=11)


def run(path: Path, home: Path) -> GatedTraining:
    workspace = Workspace.at(home).ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())
        training.run()
        return training


def explained(home: Path, step: int) -> Explained:
    with Store(Workspace.at(home)) as store:
        return explain_rows(store, Workspace.at(home), verdict_of(store, step))


def verdict_of(store: Store, step: int) -> str:
    found = store.query(
        "SELECT verdict_id FROM verdicts WHERE step = ? AND outcome = 'fail' ORDER BY seq", [step]
    )
    return str(found[0]["verdict_id"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[Path, GatedTraining]:
    """A training whose third segment failed and was learned with half of its rows wrong."""
    folder = tmp_path_factory.mktemp("taught")
    path = mixed_world(folder, tiny_llama)
    return folder, run(path, folder / "home")


def test_the_spoiled_rows_are_named_with_file_and_line(world: tuple[Path, GatedTraining]) -> None:
    folder, training = world
    found = explained(folder / "home", 18)
    assert (found.begin, found.end, found.attempt) == (12, 18, 1)
    assert found.taught.steps == (12, 18)
    learned = sorted(row.number for row in found.taught.rows for _ in range(row.times))
    planned = training.plan.segments[2]
    assert learned == sorted(planned)
    lines = (folder / "rubbish.jsonl").read_text("utf-8").splitlines()
    for row in found.taught.rows[:10]:
        assert row.place == f"rubbish.jsonl:{row.example.line}"
        assert json.loads(lines[row.example.line - 1])["id"] == row.example.row
    assert sum(row.share for row in found.taught.harmful) == pytest.approx(1)


def test_an_attempt_is_explained_by_its_own_rows(world: tuple[Path, GatedTraining]) -> None:
    """After a rollback the same step was taught by other rows."""
    folder, training = world
    workspace = Workspace.at(folder / "home")
    with Store(workspace) as store:
        names = store.query(
            "SELECT verdict_id FROM verdicts WHERE step = 18 AND outcome = 'fail' ORDER BY seq"
        )
        found = explain_rows(store, workspace, names[1]["verdict_id"])
    assert found.attempt == 2
    assert training.plan.again is not None
    order = training.plan.again((3,), ()).indices((3,))
    numbers = sorted(row.number for row in found.taught.rows for _ in range(row.times))
    assert numbers == sorted(order[48:72])
    assert {row.example.file.name for row in found.taught.rows} == {"good.jsonl"}


def test_skip_rows_leaves_out_rows_and_goes_back_to_the_bit(
    tmp_path: Path, tiny_llama: Path
) -> None:
    """As a training that knew from the start which rows to leave out after step 12."""
    gate: dict[str, Any] = {"on_fail": ["skip_rows", "stop"], "max_rollbacks": 1}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ways = [mixed_world(tmp_path / n, tiny_llama, **gate) for n in "ab"]
    back = run(ways[0], tmp_path / "a" / "home")
    [(after, numbers)] = back.state.skipped
    with Store(back.stage_run.workspace) as store:
        event, *_ = store.query(
            "SELECT detail FROM training_events WHERE event = 'rolled_back' ORDER BY seq"
        )
    detail = event["detail"]
    assert (detail["remedy"], detail["to"], after) == ("skip_rows", 12, 48)
    assert [row["number"] for row in detail["rows"]] == list(numbers)
    assert {row["file"] for row in detail["rows"]} == {"rubbish.jsonl"}
    workspace = Workspace.at(tmp_path / "b" / "home").ensure()
    with Store(workspace) as store:
        clean = GatedTraining(load_recipe(ways[1]), workspace, store, Quiet())
        state = TrainingState(clean.training_id, clean.plan.digest, skipped=back.state.skipped)
        save_state(clean.record.path, state)
        clean.run()
    assert everything(back, 12) == everything(clean, 12)
    ends = [back.folder.stood_at(18, 2), clean.folder.stood_at(18, 1)]
    assert len({weights(end) for end in ends if end}) == 1
    for name in STATE_FILES:
        assert len({(end / name).read_bytes() for end in ends if end}) == 1
    assert weights(ends[0]) != weights(back.folder.stood_at(18, 1))
    assert load_state(back.record.path) == back.state


def test_rows_left_out_move_no_other_row(world: tuple[Path, GatedTraining]) -> None:
    _, training = world
    stage, order = training.stage, training.plan.indices()
    assert without_rows(stage, order, []) == order
    gone = order[20:23]
    found = without_rows(stage, order, [(16, gone)])
    assert found[:16] == order[:16]
    assert not set(found[16:]) & set(gone)
    kept = [(a, b) for a, b in zip(order, found, strict=True) if a != b]
    assert all(a in gone for a, _ in kept)
    sources = [example.source for example in stage.examples]
    assert all(sources[a] == sources[b] for a, b in kept)
    # A second remedy leaves what was learned before it as it was.
    twice = without_rows(stage, order, [(16, gone), (24, found[30:32])])
    assert twice[:24] == found[:24]
    assert not set(twice[24:]) & {*gone, *found[30:32]}
    everything_gone = list(range(len(stage.examples)))
    assert without_rows(stage, order, [(0, everything_gone)]) == order


def test_what_can_t_be_explained_is_refused_before_a_weight_is_loaded(
    world: tuple[Path, GatedTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world[0], tmp_path / "w")
    home = tmp_path / "w" / "home"
    workspace = Workspace.at(home)
    monkeypatch.setattr(
        "trainers.methods.models.load", lambda *_, **__: pytest.fail("a weight was loaded")
    )
    with Store(workspace) as store:
        name = verdict_of(store, 18)
        [home_of] = workspace.trainings.iterdir()
        state = load_state(home_of / "state.json")
        assert state is not None

        def refused(match: str) -> None:
            with pytest.raises(UserError, match=match) as caught:
                explain_rows(store, workspace, name)
            assert caught.value.hint

        save_state(home_of / "state.json", replace(state, judged=()))
        refused("begun anew or is gone")
        save_state(home_of / "state.json", state)
        for folder in (*home_of.glob("rejected/*"), home_of / "checkpoints" / "step-000012"):
            shutil.rmtree(folder)
        refused("steps 12 and 18 are deleted")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"gate": {"suite": "suite.yaml", "on_fail": ["skip_rows"]}, "trainer": "kto"}, "kto has"),
        ({"health": {"loss": {"at_most": 9, "then": "skip_rows"}}}, "has no verdict"),
    ],
)
def test_a_recipe_with_skip_rows_where_it_can_t_be(
    tmp_path: Path, tiny_llama: Path, change: dict[str, Any], match: str
) -> None:
    path = write_world(tmp_path, tiny_llama, spoiled=False)
    for key, value in change.items():
        edit(path, *(["stages", 0, key] if key == "trainer" else [key]), value=value)
    with pytest.raises(UserError, match=match) as caught:
        load_recipe(path)
    assert caught.value.line


def test_pairs_of_dpo_are_named_and_left_out(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_world(tmp_path, tiny_llama, talk=False)
    for name, better, worse in (("good", GOOD, RUBBISH), ("rubbish", RUBBISH, GOOD)):
        rows = [
            {"id": f"{name}{n}", "asked": "Say it.", "good": better[n % 4], "bad": worse[n % 4]}
            for n in range(32)
        ]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    mix: list[dict[str, Any]] = [
        {"source": "good.jsonl", "weight": 1},
        {"source": "rubbish.jsonl", "weight": 99, "segments": [3]},
    ]
    asked = {"prompt": {"user": "{{ asked }}"}, "chosen": "{{ good }}", "rejected": "{{ bad }}"}
    edit(path, "data", "mix", value=[{**source, **asked} for source in mix])
    edit(path, "stages", 0, "trainer", value="dpo")
    edit(path, "gate", "on_fail", value=["skip_rows", "stop"])
    edit(path, "stages", 0, "learning_rate", value=0.01)
    edit(path, "stages", 0, "beta", value=0.5)
    training = run(path, tmp_path / "home")
    found = explained(tmp_path / "home", 3)
    assert (found.begin, found.end, found.attempt) == (0, 3, 1)
    worst = found.taught.rows[0]
    assert worst.influence > 0
    with Store(training.stage_run.workspace) as store:
        event, *_ = store.query(
            "SELECT detail FROM training_events WHERE event = 'rolled_back' ORDER BY seq"
        )
    assert event["detail"]["remedy"] == "skip_rows"
    assert [row["number"] for row in event["detail"]["rows"]] == [worst.number]
    [home] = Workspace.at(tmp_path / "home").trainings.iterdir()
    # The first state is the bare base: without its checkpoint it is found all the same.
    shutil.rmtree(home / "checkpoints" / "step-000000")
    alone = explained(tmp_path / "home", 3)
    assert alone.taught.rows[0].number == worst.number


@pytest.mark.parametrize(
    ("trainer", "why"), [("grpo", "answers that it draws"), ("kto", "no loss of each row")]
)
def test_a_trainer_whose_rows_have_no_loss_says_why(trainer: str, why: str) -> None:
    stage: Any = SimpleNamespace(model=SimpleNamespace(trainer=trainer))
    with pytest.raises(UserError, match=why) as caught:
        require_explained(stage)
    assert "sft and dpo" in str(caught.value.hint)
