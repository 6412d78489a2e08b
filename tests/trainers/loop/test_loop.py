"""The gated training on a tiny model: what is caught, where it goes back to, what survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import Quiet, force
from trainers.checkpoints.state import TrainingState, save_state
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining
from trainers.loop.reporter import TrainingResult


def train(
    folder: Path, base: Path, *, reporter: Any = None, home: str = "home", **world: Any
) -> tuple[TrainingResult, GatedTraining, Workspace]:
    recipe = load_recipe(write_world(folder, base, **world))
    workspace = Workspace.at(folder / home).ensure()
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, reporter or Quiet())
        return training.run(), training, workspace


def weights(training: GatedTraining, step: int) -> str:
    folder = training.folder.path(step)
    files = ("model.safetensors", "adapter_model.safetensors")
    return sha256_of_file(next(folder / name for name in files if (folder / name).exists()))


@pytest.fixture(scope="module")
def caught(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path
) -> tuple[TrainingResult, GatedTraining, Workspace, Quiet]:
    """A training whose third segment is rubbish, run to its end."""
    reporter = Quiet()
    folder = tmp_path_factory.mktemp("caught")
    return (*train(folder, tiny_llama, reporter=reporter), reporter)


Caught = tuple[TrainingResult, GatedTraining, Workspace, Quiet]


def test_the_spoiled_segment_is_caught_and_left_out(caught: Caught) -> None:
    result, training, _, reporter = caught
    assert result.status == "finished"
    [(step, to, remedy, why)] = reporter.of("rolled_back")
    assert (step, to, remedy) == (9, 6, "skip_data")
    assert "texts/perplexity" in why
    assert training.state.dropped == (3,)
    assert (training.folder.rejected / "step-000009.attempt1").exists()
    assert result.rollbacks == 1


def test_it_ends_better_than_it_began_and_the_best_checkpoint_is_promoted(caught: Caught) -> None:
    result, _, workspace, _ = caught
    assert result.best_step > 6
    assert result.promoted
    with Store(workspace) as store:
        perplexity = {
            row["run_id"]: row["mean"]
            for row in store.query("SELECT * FROM run_summary WHERE metric = 'perplexity'")
        }
        promoted = Registry(workspace, store).promoted("tiny")
    assert perplexity[result.best.id] < perplexity[result.first.id] / 2
    assert promoted is not None
    assert promoted.digest == result.digest
    assert (workspace.lines / "tiny" / "blessed" / "model.safetensors").exists()


def test_the_rollback_is_read_from_the_tables(caught: Caught) -> None:
    import duckdb

    _, training, workspace, _ = caught
    with duckdb.connect(str(workspace.database), read_only=True) as connection:
        [(step, attempt)] = connection.execute(
            "SELECT step, attempt FROM training_events WHERE event = 'rolled_back'"
        ).fetchall()
        outcomes = connection.execute(
            "SELECT step, against, outcome FROM verdicts WHERE outcome = 'fail'"
        ).fetchall()
        steps = connection.execute(
            "SELECT attempt, list(step ORDER BY step) FROM training_steps "
            "WHERE training_id = ? GROUP BY attempt ORDER BY attempt",
            [training.training_id],
        ).fetchall()
    assert (step, attempt) == (9, 1)
    assert outcomes == [(9, "crest", "fail")]
    # The history of the attempt that was taken back is still there.
    assert steps == [(1, list(range(1, 10))), (2, list(range(7, 13)))]


def test_a_second_call_trains_nothing(caught: Caught) -> None:
    result, training, workspace, _ = caught
    reporter = Quiet()
    with Store(workspace) as store:
        again = GatedTraining(training.stage_run.recipe, workspace, store, reporter).run()
    assert again == result
    assert reporter.of("train_step") == []


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "adapter", [None, pytest.param({"rank": 4, "alpha": 8, "dropout": 0.2}, marks=LONG)]
)
def test_going_back_is_bit_exact(
    tmp_path: Path, tiny_llama: Path, adapter: dict[str, object] | None
) -> None:
    """After a rollback the training equals one that never met the segment it left out."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    recipe = load_recipe(write_world(tmp_path / "a", tiny_llama, adapter=adapter))
    workspace = Workspace.at(tmp_path / "a" / "home").ensure()
    with Store(workspace) as store:
        back = GatedTraining(recipe, workspace, store, Quiet())
        if adapter is not None:
            # An adapter this small forgets too little to fail by itself.
            force(back, {(9, 1): VerdictOutcome.FAIL})
        back.run()
    recipe = load_recipe(write_world(tmp_path / "b", tiny_llama, adapter=adapter))
    workspace = Workspace.at(tmp_path / "b" / "home").ensure()
    with Store(workspace) as store:
        clean = GatedTraining(recipe, workspace, store, Quiet())
        state = TrainingState(clean.training_id, clean.plan.digest, dropped=(3,))
        save_state(clean.record.path, state)
        clean.run()
    assert back.state.dropped == clean.state.dropped == (3,)
    assert (back.state.rollbacks, clean.state.rollbacks) == (1, 0)
    for step in (6, 9, 12):
        assert weights(back, step) == weights(clean, step)


def test_being_judged_changes_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    """The same weights come out whether or not the suite samples answers in between."""
    adapter = {"rank": 4, "alpha": 8, "dropout": 0.2}
    ends = []
    for talk in (True, False):
        folder = tmp_path / str(talk)
        folder.mkdir()
        _, training, _ = train(folder, tiny_llama, spoiled=False, talk=talk, adapter=adapter)
        ends.append(weights(training, 12))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("after", [9, 44, *(pytest.param(n, marks=LONG) for n in (3, 20, 31))])
def test_an_interrupted_training_goes_on_to_the_same_end(
    tmp_path: Path, tiny_llama: Path, caught: Caught, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tiny_llama, reporter=Quiet(interrupt_at=after))
    reporter = Quiet()
    result, training, _ = train(tmp_path, tiny_llama, reporter=reporter)
    assert (result.best_step, result.digest) == (caught[0].best_step, caught[0].digest)
    assert weights(training, 12) == weights(caught[1], 12)


def test_a_broken_checkpoint_is_set_aside_and_the_one_before_it_used(
    tmp_path: Path, tiny_llama: Path, caught: Caught
) -> None:
    reporter = Quiet()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tiny_llama, reporter=_interrupting_at_step(8))
    [home] = (tmp_path / "home" / "trainings").iterdir()
    broken = home / "checkpoints" / "step-000006" / "optimizer.pt"
    broken.write_bytes(broken.read_bytes()[:-7])
    result, training, _ = train(tmp_path, tiny_llama, reporter=reporter)
    assert min(words[0] for words in reporter.of("train_step")) == 4
    assert result.digest == caught[0].digest
    assert weights(training, 12) == weights(caught[1], 12)


def _interrupting_at_step(step: int) -> Any:
    class Interrupting(Quiet):
        def train_step(self, at: int, of: int, loss: float | None) -> None:
            if at == step:
                raise KeyboardInterrupt

    return Interrupting()


def test_a_later_training_must_pass_against_what_is_promoted(
    tmp_path: Path, tiny_llama: Path
) -> None:
    """A shorter training of the same line is compared with the longer one, on fresh answers."""
    _, first, workspace = train(tmp_path, tiny_llama, spoiled=False)
    path = tmp_path / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("steps: 12", "steps: 3"), encoding="utf-8")
    reporter = Quiet()
    with Store(workspace) as store:
        result = GatedTraining(load_recipe(path), workspace, store, reporter).run()
        history = Registry(workspace, store).history("tiny")
        held = store.query("SELECT outcome FROM verdicts WHERE against = 'line:tiny'")
    assert result.best_step == 3
    assert not result.promoted
    assert [version.number for version in history] == [1]
    assert [row["outcome"] for row in held] == ["fail"]
    [(said,)] = [words for words in reporter.of("say") if "Not promoted" in words[0]]
    assert "texts/perplexity" in said
    assert first.training_id != result.training_id


def test_the_best_that_stands_is_promoted_though_nothing_proves_it_to_be_the_best(
    tmp_path: Path, tiny_llama: Path
) -> None:
    recipe = load_recipe(write_world(tmp_path, tiny_llama, spoiled=False))
    workspace = Workspace.at(tmp_path / "home").ensure()
    reporter = Quiet()
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, reporter)
        proven = training.judging.better_than_best
        training.judging.better_than_best = (  # type: ignore[method-assign]
            lambda candidate, step, state: proven(candidate, step, state) if step == 3 else None
        )
        result = training.run()
        [end] = store.query("SELECT detail FROM training_events WHERE event = 'finished'")
        [event] = store.query("SELECT step FROM training_events WHERE event = 'promoted'")
        promoted = Registry(workspace, store).promoted("tiny")
        [verdict] = store.query("SELECT outcome FROM verdicts WHERE training_id IS NULL")
        again = GatedTraining(recipe, workspace, store, Quiet()).run()
    assert result.best_step == 3
    assert result.offered_step == event["step"] == end["detail"]["offered"] > 6
    assert "texts/perplexity by" in end["detail"]["why"]
    [said] = [words[0] for words in reporter.of("say") if words[0].startswith("Offering")]
    assert f"Offering step {result.offered_step}: it did not fail" in said
    assert result.promoted
    assert promoted is not None
    assert promoted.digest == result.digest
    assert verdict["outcome"] == "pass"
    assert again == result
    assert training.state.best_checkpoint == 3


def test_an_adapter_for_modules_that_are_not_there_is_refused(
    tmp_path: Path, tiny_llama: Path
) -> None:
    with pytest.raises(UserError, match="no module named 'w_qkv'") as caught:
        train(tmp_path, tiny_llama, adapter={"targets": ["w_qkv"]})
    assert "q_proj" in str(caught.value.hint)
