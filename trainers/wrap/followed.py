"""A job of which only its folder is known, as the loop takes it: its checkpoints, and a judge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.backends.base import Backend, Candidate
from harness.backends.openers import Hardware
from harness.core.digests import digest_of
from harness.core.files import write_atomic
from harness.core.format import opponent_name
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.evaluation.open_model import open_model
from harness.gate.verdict import Verdict
from harness.models.kept_base import KeptBase
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles
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
from trainers.wrap.layouts import Found
from trainers.wrap.watched import Watched


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


class TheirFolder(CheckpointFolder):
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


class Followed(Watched):
    """The loop of a training of which only its checkpoints are known."""

    folder: TheirFolder

    def __init__(self, run: StageRun, asked: Follow, store: Store, reporter: Reporter) -> None:
        super().__init__(run, TheirFolder(run.home, asked.base), store, reporter)
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

    def named(self, name: str) -> Candidate:
        """Raises UserError where no model has that name."""
        asked = self._asked
        return open_model(
            name,
            self.stage_run.workspace,
            self._store,
            hardware=asked.hardware,
            base=asked.base,
            say=self.reporter.say,
        )

    def score_named(self, name: str) -> Run:
        """The run of a model that is named, scored as far as an anchor is."""
        return self.judging.extend(self.named(name), 0, self.judging.whole)

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
        self._kept = KeptBase()

    def load(self, files: ModelFiles, **_: Any) -> tuple[Any, Any]:
        """The checkpoints of an adapter's training share their base, which is read once."""
        return self._kept.load(files, dtype=self._hardware.dtype, device=self._hardware.device)


def job_of(asked: Follow, workspace: Workspace, planned: int, *, every: int) -> StageRun:
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
