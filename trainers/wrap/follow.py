"""Follows a folder in which another job's checkpoints appear: scores each once, and decides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.backends.base import Backend
from harness.backends.openers import Hardware
from harness.comparison.service import stored_run
from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.files import replace_symlink, write_atomic
from harness.core.format import opponent_name
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.evaluation.open_model import open_model
from harness.gate.verdict import Verdict
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles, load
from harness.registry.registry import Registry
from harness.report.document import to_json
from harness.store.store import Store
from harness.suite.suite import Suite
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import Judged
from trainers.checkpoints.whole import read_json, why_not_whole
from trainers.config.data_schema import DataModel
from trainers.config.recipe import Recipe, Stage
from trainers.config.run_options import RunOptions
from trainers.config.schema import (
    InconclusiveModel,
    RecipeModel,
    StageModel,
    TrainingGateModel,
)
from trainers.loop.engine import Segment
from trainers.loop.reporter import Reporter
from trainers.loop.stage_run import StageRun
from trainers.methods.base import Method
from trainers.methods.causal import CausalMethod
from trainers.wrap.given import name_of
from trainers.wrap.layouts import Found, Scan, planned_by
from trainers.wrap.watched import Watched

BEST = "best"
VERDICT = "verdict.json"


@dataclass(frozen=True, slots=True)
class Follow:
    """What is asked of a follower. `out` is where verdicts and the link `best` are written;
    `planned` how many checkpoints alpha is split over (None: what the job itself wrote down);
    `against` the anchor (None: what is promoted on the line, else the first checkpoint found).
    """

    folder: Path
    suite: Suite
    out: Path
    layout: str
    planned: int | None = None
    against: str | None = None
    line: str | None = None
    base: str | None = None
    tokenizer: Path | None = None
    score_on: str | None = None
    hardware: Hardware | None = None
    on_fail: str | None = None
    stop_file: Path | None = None
    rest_s: float = 30.0


class Follower:
    """Follows one folder. It can be killed at any moment and begun again: what has been scored and
    decided is in the workspace, and what had to follow from it is done then.
    """

    def __init__(
        self, asked: Follow, workspace: Workspace, store: Store, reporter: Reporter
    ) -> None:
        self._asked, self._workspace, self._store = asked, workspace, store
        self._reporter = reporter
        self._scan = Scan(asked.folder, asked.layout, asked.rest_s, asked.tokenizer)
        self._training: _Followed | None = None
        self.failed = False

    def poll(self) -> bool:
        """Judge every whole checkpoint that has not been; True where no more is to come: all that
        were planned are judged, or one has failed and nothing else is to be done about it.
        """
        for place, why in self._scan.unusable():
            self._reporter.say(f"{place} is finished and can't be scored: {why}")
        for found in self._scan.whole():
            if self._training is None:
                self._training = self._begin(found)
            training = self._training
            if self._is_over(training):
                break
            if not training.is_known(found.step):
                self._judge(training, found)
        if self._training is None:
            return False
        for judged in self._training.state.judged:
            self._settle(self._training, judged)
        self._keep_best(self._training)
        return self._is_over(self._training)

    def end(self) -> None:
        """No more of the job is followed: offer the best checkpoint to its line, and sum up."""
        training = self._training
        if training is None:
            return
        judged = [each for each in training.state.judged if each.outcome != "anchor"]
        if training.state.status == "running":
            if (place := self._best_place(training)) is not None:
                training.folder.find(training.state.best_checkpoint, place)
            last = max((each.step for each in judged), default=0)
            result = training.finish("finished" if training.is_full else "stopped", step=last)
            if result.promoted and result.digest is not None:
                self._reporter.say(f"Promoted to {self._asked.line}: {result.digest[:16]}")
        counts = [
            (word, sum(e.outcome == word for e in judged)) for word in ("pass", "held", "fail")
        ]
        best = training.state.best_checkpoint
        self._reporter.say(
            f"{len(judged)} checkpoints are judged, of {training.stage.segments} planned: "
            + ", ".join(f"{count} {word}" for word, count in counts)
            + (f"; the best is step {best}" if best else "; none is proven better than the anchor")
        )

    def _is_over(self, training: _Followed) -> bool:
        acts = self._asked.on_fail is not None or self._asked.stop_file is not None
        return training.is_full or (self.failed and not acts)

    # -- one checkpoint ------------------------------------------------------------------------

    def _begin(self, first: Found) -> _Followed:
        planned = self._asked.planned or planned_by(first.place)
        if planned is None:
            raise UserError(
                "nobody has written down how many checkpoints this job will save, and alpha is "
                "split over all of them",
                file=first.place,
                field="--planned",
                hint="say it: --planned N",
            )
        run = _run_of(self._asked, self._workspace, planned, every=max(1, first.step))
        training = _Followed(run, self._asked, self._store, self._reporter)
        if training.record.open(again=False):
            self._reporter.say("Going on where this was stopped.")
        if training.state.of(0) is None:
            self._anchor(training, first)
        for judged in training.state.judged:
            self._settle(training, judged)
        return training

    def _anchor(self, training: _Followed, first: Found) -> None:
        name = self._asked.against or self._promoted()
        if name is not None:
            self._reporter.say(f"The anchor is {name}")
            run = stored_run(name, self._store) or training.score_named(name)
            training.record.keep(training.state.with_judged(Judged(0, 1, run.id, "anchor")))
            return
        self._reporter.say(
            f"The anchor is {first.place.name}, the first checkpoint that is whole; --against "
            "names another"
        )
        training.folder.take_as_anchor(first)
        training.judge_saved(0)

    def _promoted(self) -> str | None:
        line = self._asked.line
        if line is None or Registry(self._workspace, self._store).promoted(line) is None:
            return None
        return f"line:{line}"

    def _judge(self, training: _Followed, found: Found) -> None:
        training.folder.add(found)
        try:
            training.judge_saved(found.step)
        except (UserError, OSError):
            if why_not_whole(found.model) is None:
                raise
            self._reporter.say(f"{found.place} was deleted before it was judged")
            return
        judged = training.judged(found.step)
        assert judged is not None
        self._settle(training, judged)

    def _settle(self, training: _Followed, judged: Judged) -> None:
        """Whatever follows from a verdict, where it has not been done: at least once."""
        self.failed = self.failed or judged.outcome == "fail"
        if judged.outcome == "anchor" or self._written(judged.step).exists():
            return
        fault_point("before-rollback")
        if judged.outcome == "fail":
            self._act(training, judged)
        self._write(training, judged)

    def _act(self, training: _Followed, judged: Judged) -> None:
        asked, place = self._asked, training.folder.place_of(judged.step)
        if asked.stop_file is not None:
            asked.stop_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(asked.stop_file, f"step {judged.step} failed: {place}\n")
            self._reporter.say(f"Wrote {asked.stop_file}")
        if asked.on_fail is not None:
            environment = {
                **os.environ,
                "RATCHET_STEP": str(judged.step),
                "RATCHET_CHECKPOINT": str(place),
                "RATCHET_BEST": str(self._best_place(training) or ""),
            }
            done = subprocess.run(asked.on_fail, shell=True, env=environment, check=False)
            self._reporter.say(f"The command of --on-fail ended with {done.returncode}")

    # -- what is written -------------------------------------------------------------------------

    def _written(self, step: int) -> Path:
        return self._asked.out / f"step-{step:06d}" / VERDICT

    def _write(self, training: _Followed, judged: Judged) -> None:
        """The verdict of a checkpoint as a file; the last of what is done for it."""
        best = training.state.best_checkpoint == judged.step
        document: dict[str, Any] = {
            "step": judged.step,
            "checkpoint": str(training.folder.place_of(judged.step)),
            "outcome": judged.outcome,
            "best": best,
            "run": judged.run_id,
            "training": training.training_id,
            "verdicts": training.documents(judged),
        }
        if best:
            # Its job may delete it, where it keeps only so many.
            document["kept"] = training.copy_of(judged)
        place = self._written(judged.step)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
        self._keep_best(training)

    def _keep_best(self, training: _Followed) -> None:
        """The link `best`: to the checkpoint while it is there, to the copy of its model after."""
        place = self._best_place(training)
        link = self._asked.out / BEST
        if place is None or (link.is_symlink() and link.resolve() == place.resolve()):
            return
        if link.exists() and not link.is_symlink():
            raise UserError(
                "something else has the name of the link to the best checkpoint",
                file=link,
                field="--to",
                hint="move it away, or write elsewhere: --to DIR",
            )
        replace_symlink(link, os.path.relpath(place, link.parent))

    def _best_place(self, training: _Followed) -> Path | None:
        best = training.state.best_checkpoint
        written = self._written(best)
        if not best or not written.exists():
            return None
        document = json.loads(written.read_text(encoding="utf-8"))
        place = Path(document["checkpoint"])
        if place.is_dir() or not document.get("kept"):
            return place
        return self._workspace.checkpoints / str(document["kept"])


class _TheirFolder(CheckpointFolder):
    """Another tool's checkpoints where they lie. A model whose parts lie apart is put together in
    the workspace, out of links.
    """

    def __init__(self, home: Path, base: str | None) -> None:
        super().__init__(home)
        self._base = base
        self._models: dict[int, Path] = {}
        self._list = home / "places.json"
        self._places: dict[str, str] = read_json(self._list) or {}

    @property
    def anchor_step(self) -> int | None:
        """The step of the checkpoint that is the anchor, where it is one of these."""
        step = self._places.get("anchor")
        return None if step is None else int(step)

    def take_as_anchor(self, found: Found) -> None:
        self._note({"anchor": str(found.step), str(found.step): str(found.place.absolute())})
        self._models[0] = self._model_of(found)

    def add(self, found: Found) -> None:
        self._note({str(found.step): str(found.place.absolute())})
        self._models[found.step] = self._model_of(found)

    def find(self, step: int, place: Path) -> None:
        """Where the model of a checkpoint is whose own place is gone."""
        if not self.path(step).is_dir():
            self._models[step] = place

    def place_of(self, step: int) -> str:
        return self._places[str(step)]

    def path(self, step: int) -> Path:
        return self._models.get(step) or super().path(step)

    def commit(self, step: int, **_: Any) -> Path:
        return self.path(step)

    def measures(self, step: int) -> dict[str, float]:
        return {}

    def steps(self) -> Iterator[tuple[int, int]]:
        yield from ((step, 1) for step, place in sorted(self._models.items()) if place.is_dir())

    def require(self, step: int) -> Path:
        return self.path(step)

    def _note(self, more: Mapping[str, str]) -> None:
        """Before it is judged: what follows from the verdict names it, whatever happens then."""
        self._places = {**self._places, **more}
        write_atomic(self._list, json.dumps(self._places) + "\n")

    def _model_of(self, found: Found) -> Path:
        adapter = (found.model / ADAPTER_CONFIG).exists()
        if found.tokenizer is None and not (adapter and self._base is not None):
            return found.model
        folder = self.kept / f"step-{found.step:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for source in (found.model, found.tokenizer):
            for path in () if source is None else sorted(source.iterdir()):
                if path.is_file() and not (folder / path.name).exists():
                    (folder / path.name).symlink_to(path.absolute())
        if adapter and self._base is not None:
            config = folder / ADAPTER_CONFIG
            said = json.loads(config.read_text(encoding="utf-8"))
            config.unlink()
            config.write_text(json.dumps({**said, "base_model_name_or_path": self._base}))
        return folder


class _Followed(Watched):
    """The loop of a training of which only its checkpoints are known."""

    folder: _TheirFolder

    def __init__(self, run: StageRun, asked: Follow, store: Store, reporter: Reporter) -> None:
        super().__init__(run, _TheirFolder(run.home, asked.base), store, reporter)
        self.engine = _Files(run.method)
        self._asked = asked
        self._store = store

    @property
    def is_full(self) -> bool:
        """Whether all checkpoints have been seen that alpha was split over."""
        judged = [each for each in self.state.judged if each.outcome != "anchor"]
        return len(judged) + (self.folder.anchor_step is not None) >= self.stage.segments

    def is_known(self, step: int) -> bool:
        return step == self.folder.anchor_step or self.judged(step) is not None

    def judged(self, step: int) -> Judged | None:
        return next((each for each in self.state.judged if each.step == step), None)

    def score_named(self, name: str) -> Run:
        """The run of a model that is named, scored as far as an anchor is."""
        asked = self._asked
        candidate = open_model(
            name,
            self.stage_run.workspace,
            self._store,
            hardware=asked.hardware,
            base=asked.base,
            say=self.reporter.say,
        )
        return self.judging.extend(candidate, 0, self.judging.whole)

    def copy_of(self, judged: Judged) -> str | None:
        """The digest of a copy of a checkpoint's model in the workspace; None where it is gone."""
        folder = self.folder.path(judged.step)
        if why_not_whole(folder) is not None:
            return None
        return Registry(self.stage_run.workspace, self._store).add(
            folder, training_id=self.training_id, step=judged.step, run_id=judged.run_id
        )

    def documents(self, judged: Judged) -> list[dict[str, Any]]:
        """The verdicts on a checkpoint in their published form, each with its opponent."""
        rows = self._store.query(
            "SELECT verdict_id, against, detail FROM verdicts WHERE training_id = ? AND step = ?",
            [self.training_id, judged.step],
        )
        return [
            {
                "against": opponent_name(row["against"]),
                "id": row["verdict_id"],
                **json.loads(to_json(Verdict.from_dict(row["detail"]))),
            }
            for row in rows
            if row["verdict_id"] in judged.verdicts
        ]


class _Files:
    """As much of a `TrainerEngine` as checkpoints need that are read from their files."""

    step = -1

    def __init__(self, method: Method) -> None:
        self._method = method
        self._opened: tuple[str, Backend] | None = None

    def backend(self, step: int, files: ModelFiles) -> Backend:
        if self._opened is None or self._opened[0] != files.digest:
            # Two models at once need not fit.
            self._opened = None
            self._opened = files.digest, self._method.backend(*self._method.load(files))
        return self._opened[1]

    def let_go(self) -> None:
        """The next checkpoint's takes its place; the memory is nobody else's."""

    def run(self, segment: Segment) -> None:
        raise NotImplementedError("another job trains")

    def save(self) -> None:
        raise NotImplementedError("another job saves")

    def validation_loss(self) -> float:
        raise NotImplementedError("nothing is known of its data")

    def set_learning_rate(self) -> None:
        """It is another job's."""


class _FromFiles(CausalMethod):
    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def load(self, files: ModelFiles, **_: Any) -> tuple[Any, Any]:
        return load(files, dtype=self._hardware.dtype, device=self._hardware.device)


def _run_of(asked: Follow, workspace: Workspace, planned: int, *, every: int) -> StageRun:
    """The job as the loop takes it. Of its steps no more is known than where the first is."""
    hardware = asked.hardware or Hardware.choose()
    folder = asked.folder.absolute()
    gate = TrainingGateModel(
        suite=str(asked.suite.path),
        on_fail=("stop",),
        on_inconclusive=InconclusiveModel(looks=asked.suite.policy.looks or (1.0,)),
        max_rollbacks=0,
        promote=asked.line is not None,
    )
    stage = StageModel.model_construct(
        trainer="sft", steps=planned * every, checkpoint_every=every, flat_reward_steps=0
    )
    name = name_of(str(folder))
    model = RecipeModel.model_construct(
        name=name, line=asked.line or name, base=asked.base or "", stages=(stage,), gate=gate
    )
    whole = Stage(1, "", stage, DataModel.model_construct(mix=()), gate, {}, (), (), asked.suite)
    identity = digest_of(
        [
            str(folder),
            [asked.suite.digest, repr(asked.suite.policy)],
            [asked.layout, planned, asked.against, asked.base, asked.score_on],
            hardware.dtype,
        ]
    )
    return StageRun(
        Recipe(folder, model, (whole,)),
        whole,
        ModelFiles(asked.base or "", folder, None, ""),
        None,
        RunOptions(scored_on=asked.score_on),
        workspace,
        f"{name}-{identity[:10]}",
        given=cast(Method, _FromFiles(hardware)),
        dtype=hardware.dtype,
    )


def follow(
    follower: Follower, *, every_s: float, once: bool, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Follow until all planned checkpoints are judged, or until one fails with nothing else to be
    done; with `once` only those that are there. Returns the exit code: 1 where one has failed.
    """
    while not (over := follower.poll()) and not once:
        sleep(every_s)
    if over:
        follower.end()
    return 1 if follower.failed else 0
