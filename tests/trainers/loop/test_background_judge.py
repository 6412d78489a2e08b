"""A judge in a second process: its late verdicts lead to the same end as timely ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles
from harness.store.store import Store
from tests.trainers.distributed.torchrun_process import launch
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import Quiet, weights
from tests.trainers.warm_process import Process, Warm, start
from trainers.checkpoints.state import TrainingState, load_state
from trainers.config.load import load_recipe
from trainers.config.run_options import RunOptions
from trainers.loop.background_judge import LAG, PROCESS, require_background_device
from trainers.loop.gated_training import GatedTraining
from trainers.loop.opinion import Opinion
from trainers.methods.base import method_of


class Late:
    """A judge of its own model that answers when it was asked so often, or is waited for."""

    lag = LAG

    def __init__(self, training: GatedTraining, patience: int) -> None:
        self._training = training
        self._patience = patience
        self._asked: Counter[tuple[int, int]] = Counter()

    def opinion(self, step: int, state: TrainingState, *, wait: bool) -> Opinion | None:
        self._asked[step, state.attempt] += 1
        if not wait and self._asked[step, state.attempt] < self._patience:
            return None
        return self._training.judging.opinion(step, state, self._open)

    def _open(self, files: ModelFiles) -> Any:
        method = method_of(self._training.stage.model.trainer)
        return method.backend(*method.load(files))

    def close(self) -> None:
        """Nothing is held."""


def train(
    folder: Path,
    base: Path,
    *,
    patience: int = 0,
    aside: str | None = None,
    reporter: Any = None,
    **world: Any,
) -> GatedTraining:
    folder.mkdir(exist_ok=True)
    recipe = load_recipe(write_world(folder, base, **world))
    workspace = Workspace.at(folder / "home").ensure()
    with Store(workspace) as store:
        options = RunOptions(background_device=aside)
        training = GatedTraining(recipe, workspace, store, reporter or Quiet(), options=options)
        if patience:
            training.judge = Late(training, patience)
        training.run()
    return training


@pytest.fixture(scope="module")
def timely(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> GatedTraining:
    """A training whose third segment is rubbish; each verdict comes before the next step."""
    return train(tmp_path_factory.mktemp("timely") / "world", tiny_llama)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as warm:
        yield warm


def judges(training: psutil.Process | None = None) -> list[psutil.Process]:
    """The second processes of a training, by default of one in this process."""
    children = (training or psutil.Process()).children()
    return [child for child in children if PROCESS in child.cmdline()]


def assert_the_same_end(found: GatedTraining, wanted: GatedTraining) -> None:
    a, b = found.state, wanted.state
    assert [(j.step, j.attempt, j.outcome) for j in a.judged] == [
        (j.step, j.attempt, j.outcome) for j in b.judged
    ]
    for name in ("status", "best_checkpoint", "dropped", "rollbacks", "attempt", "start"):
        assert getattr(a, name) == getattr(b, name)
    for step in (3, 6, 9, 12):
        assert all_of(found, step) == all_of(wanted, step)


def all_of(training: GatedTraining, step: int) -> dict[str, str]:
    """Digests of what a checkpoint carries on, of however many processes."""
    folder = training.folder.path(step)
    states = [*folder.glob("rng_state*.pth"), folder / "optimizer.pt", folder / "scheduler.pt"]
    assert len(states) > 2
    return {"weights": weights(folder), **{path.name: sha256_of_file(path) for path in states}}


@pytest.mark.parametrize("patience", [100, pytest.param(2, marks=pytest.mark.long)])
def test_a_late_verdict_rolls_back_to_where_a_timely_one_does(
    tmp_path: Path, tiny_llama: Path, timely: GatedTraining, patience: int
) -> None:
    reporter = Quiet()
    late = train(tmp_path / "late", tiny_llama, patience=patience, reporter=reporter)
    [(step, to, remedy, _)] = reporter.of("rolled_back")
    assert (step, to, remedy) == (9, 6, "skip_data")
    # It had gone on meanwhile, and what it made of the bad checkpoint is put away with it.
    assert max(words[0] for words in reporter.of("train_step")) == 12
    rejected = {path.name for path in late.folder.rejected.iterdir()}
    assert rejected >= {"step-000009.attempt1"}
    assert ("step-000012.attempt1" in rejected) == (patience == 100)
    with Store(late.stage_run.workspace) as store:
        [row] = store.query("SELECT detail FROM training_events WHERE event = 'rolled_back'")
    assert row["detail"]["reached"] == (12 if patience == 100 else 10)
    assert_the_same_end(late, timely)


def test_a_second_process_judges_and_ends_with_the_training(
    tmp_path: Path, tiny_llama: Path, timely: GatedTraining
) -> None:
    reporter = Quiet()
    aside = train(tmp_path / "aside", tiny_llama, aside="cpu", reporter=reporter)
    assert_the_same_end(aside, timely)
    # What it has to say is heard here.
    assert {words[0] for words in reporter.of("judged")} == {0, 3, 6, 9, 12}
    assert reporter.of("progress")
    assert judges() == []


@pytest.mark.long
def test_a_judge_that_dies_begins_again(
    tmp_path: Path, tiny_llama: Path, timely: GatedTraining
) -> None:
    class Murderous(Quiet):
        done = False

        def judged(self, step: int, opinion: Opinion) -> None:
            if step == 6 and not self.done:
                self.done = True
                [judge] = judges()
                judge.kill()

    reporter = Murderous()
    aside = train(tmp_path / "aside", tiny_llama, aside="cpu", reporter=reporter)
    assert any("begins again" in said for (said,) in reporter.of("say"))
    assert_the_same_end(aside, timely)


def test_a_judge_that_dies_twice_of_one_checkpoint_ends_the_training(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with pytest.raises(UserError, match=r"step 0 .* ended 2 times, the last time with 9") as caught:
        train(tmp_path / "aside", tiny_llama, aside="cpu")
    assert "leave out --aside" in str(caught.value.hint)
    assert judges() == []


def test_what_the_judge_can_not_do_is_said_by_the_training(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = tmp_path / "dead"
    folder.mkdir()
    path = write_world(folder, tiny_llama, adapter={"rank": 2})
    options = RunOptions(background_device="cpu", scored_on="openai:http://127.0.0.1:9#tiny")
    workspace = Workspace.at(folder / "home").ensure()
    with Store(workspace) as store, pytest.raises(UserError, match=r"127\.0\.0\.1:9"):
        GatedTraining(load_recipe(path), workspace, store, Quiet(), options=options).run()
    assert judges() == []


@pytest.mark.parametrize("device", ["banana", "cuda:17", "meta"])
def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, tiny_llama: Path, device: str
) -> None:
    recipe = load_recipe(write_world(tmp_path, tiny_llama))
    with pytest.raises(UserError, match="no device") as caught:
        require_background_device(recipe, device)
    assert caught.value.field == "--aside"


# -- killed ----------------------------------------------------------------------------------------


def finished(folder: Path) -> GatedTraining:
    """The training of a folder as it stands, to be looked at."""
    workspace = Workspace.at(folder / "home")
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(folder / "recipe.yaml"), workspace, store, Quiet())
    state = load_state(training.record.path)
    assert state is not None
    training.record.state = state
    return training


def went_through(process: Process, folder: Path) -> None:
    assert process.wait(timeout=240) == 0, (folder / "out.txt").read_text(errors="replace")


@pytest.mark.parametrize(
    ("fault", "then"),
    [
        pytest.param("before-judgement:5", ("--aside", "cpu"), marks=pytest.mark.long),
        # What the judge had not come to is judged at once, through files.
        ("before-judgement:4", ()),
        pytest.param("before-rollback", ("--aside", "cpu"), marks=pytest.mark.long),
        pytest.param("mid-rejection", (), marks=pytest.mark.long),
    ],
)
def test_killed_while_verdicts_were_open(
    tmp_path: Path,
    tiny_llama: Path,
    warm: Warm,
    timely: GatedTraining,
    fault: str,
    then: tuple[str, ...],
) -> None:
    write_world(tmp_path, tiny_llama)
    assert start(warm, tmp_path, fault, "--aside", "cpu").wait(timeout=240) == -9
    went_through(start(warm, tmp_path, None, *then), tmp_path)
    assert_the_same_end(finished(tmp_path), timely)


def test_the_judge_of_a_killed_training_ends_as_well(
    tmp_path: Path, tiny_llama: Path, warm: Warm
) -> None:
    write_world(tmp_path, tiny_llama)
    process = start(warm, tmp_path, None, "--aside", "cpu")
    training = psutil.Process(process.pid)
    while not (found := judges(training)):
        assert training.is_running(), (tmp_path / "out.txt").read_text(errors="replace")
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=60) == -9
    _, alive = psutil.wait_procs(found, timeout=30)
    assert not alive


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_hear_of_a_late_verdict_at_the_next_checkpoint(
    tmp_path: Path, tiny_llama: Path
) -> None:
    ends = []
    for name, options in (("aside", ("--aside", "cpu")), ("timely", ())):
        folder = tmp_path / name
        folder.mkdir()
        write_world(folder, tiny_llama)
        done = launch(folder, options=options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        ends.append(finished(folder))
    assert_the_same_end(*ends)
