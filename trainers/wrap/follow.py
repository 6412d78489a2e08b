"""Follows a folder in which another job's checkpoints appear: scores each once, and decides."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.comparison.service import stored_run
from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.files import replace_symlink, write_atomic
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from trainers.checkpoints.state import Judged
from trainers.checkpoints.whole import why_not_whole
from trainers.loop.reporter import Reporter
from trainers.wrap.followed import Follow, Followed, job_of
from trainers.wrap.layouts import Found, Scan, planned_by

BEST = "best"
VERDICT = "verdict.json"


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
        self._training: Followed | None = None
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

    def _is_over(self, training: Followed) -> bool:
        acts = self._asked.on_fail is not None or self._asked.stop_file is not None
        return training.is_full or (self.failed and not acts)

    # -- one checkpoint ------------------------------------------------------------------------

    def _begin(self, first: Found) -> Followed:
        planned = self._asked.planned or planned_by(first.place)
        if planned is None:
            raise UserError(
                "nobody has written down how many checkpoints this job will save, and alpha is "
                "split over all of them",
                file=first.place,
                field="--planned",
                hint="say it: --planned N",
            )
        run = job_of(self._asked, self._workspace, planned, every=max(1, first.step))
        training = Followed(run, self._asked, self._store, self._reporter)
        if not run.state_file.exists() and (name := self._anchor_name()) is not None:
            # Before it is announced: a name that leads nowhere begins nothing.
            _ = stored_run(name, self._store) or training.named(name)
        if training.record.open(again=False):
            self._reporter.say("Going on where this was stopped.")
        if training.state.of(0) is None:
            self._anchor(training, first)
        for judged in training.state.judged:
            self._settle(training, judged)
        return training

    def _anchor(self, training: Followed, first: Found) -> None:
        name = self._anchor_name()
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

    def _anchor_name(self) -> str | None:
        line = self._asked.line
        if self._asked.against is not None:
            return self._asked.against
        if line is None or Registry(self._workspace, self._store).promoted(line) is None:
            return None
        return f"line:{line}"

    def _judge(self, training: Followed, found: Found) -> None:
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

    def _settle(self, training: Followed, judged: Judged) -> None:
        """Whatever follows from a verdict, where it has not been done: at least once."""
        self.failed = self.failed or judged.outcome == "fail"
        if judged.outcome == "anchor" or self._written(judged.step).exists():
            return
        fault_point("before-rollback")
        if judged.outcome == "fail":
            self._act(training, judged)
        self._write(training, judged)

    def _act(self, training: Followed, judged: Judged) -> None:
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

    def _write(self, training: Followed, judged: Judged) -> None:
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

    def _keep_best(self, training: Followed) -> None:
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

    def _best_place(self, training: Followed) -> Path | None:
        best = training.state.best_checkpoint
        written = self._written(best)
        if not best or not written.exists():
            return None
        document = json.loads(written.read_text(encoding="utf-8"))
        place = Path(document["checkpoint"])
        if place.is_dir() or not document.get("kept"):
            return place
        return self._workspace.checkpoints / str(document["kept"])


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
