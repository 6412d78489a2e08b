"""Checkpoints of a training: saved atomically, restored only when whole, rejected, never deleted.

A checkpoint folder holds what the Trainer saves (weights or adapter, optimizer, scheduler,
random states) and a manifest; `trainings/<id>/checkpoints/step-000008` is its place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.core import files as artifacts
from harness.core.errors import UserError
from harness.models.other_files import keep_processor

NOTE = "ratchet.json"
ADAPTER_CONFIG = "adapter_config.json"
Stamps = tuple[tuple[str, int, int, int, int], ...]


class CheckpointFolder:
    """The checkpoints of one training on disk."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.staging = home / "staging"
        self.kept = home / "checkpoints"
        self.rejected = home / "rejected"
        self._whole: dict[Path, Stamps] = {}
        self.make()

    def make(self) -> None:
        """The empty folders of a training that begins, where they are not there yet."""
        self._whole.clear()
        for folder in (self.staging, self.kept, self.rejected):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, step: int) -> Path:
        return self.kept / f"step-{step:06d}"

    def clear_staging(self) -> None:
        """What was being written when a process died is nobody's checkpoint."""
        for leftover in self.staging.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def commit(
        self,
        step: int,
        *,
        attempt: int,
        base: str,
        measures: Mapping[str, float] | None = None,
        beside: Path | None = None,
    ) -> Path:
        """Move what the Trainer has saved for `step` to its place, whole or not at all. It takes
        along what was measured on the way, for whoever judges it after a crash; and a whole model
        what reads its images, from the base's folder `beside`.
        """
        source = self.staging / f"checkpoint-{step}"
        # DeepSpeed's scripts for its own shards would pass for the model's own code.
        for script in source.glob("zero_to_*.py"):
            script.unlink()
        _name_the_base(source, base)
        if beside is not None and not (source / ADAPTER_CONFIG).exists():
            keep_processor(beside, source)
        note = json.dumps({"step": step, "attempt": attempt, "measures": measures or {}}) + "\n"
        (source / NOTE).write_text(note, encoding="utf-8")
        # The note is written before the folder is moved: whoever finds a checkpoint in its place
        # finds all of it, and knows which attempt it belongs to.
        target = self.path(step)
        artifacts.commit_folder(source, target)
        self._whole[target] = _stamps(target)
        return target

    def steps(self) -> Iterator[tuple[int, int]]:
        """(step, attempt) of every whole checkpoint, oldest first; broken ones are set aside."""
        for folder in sorted(self.kept.glob("step-*")):
            problems = self._problems(folder)
            if problems:
                artifacts.set_aside(folder, "; ".join(problems))
                continue
            note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            yield int(note["step"]), int(note["attempt"])

    def stood_at(self, step: int, attempt: int) -> Path | None:
        """The checkpoint of `step` that an attempt made or went on from, where it has been taken
        back since too; None where it is deleted or damaged.
        """
        found = []
        for folder in (self.path(step), *self.rejected.glob(f"step-{step:06d}.attempt*")):
            if (folder / NOTE).exists() and not artifacts.verify(folder):
                made = int(json.loads((folder / NOTE).read_text(encoding="utf-8"))["attempt"])
                if made <= attempt:
                    found.append((made, folder.stat().st_mtime, folder))
        return max(found)[-1] if found else None

    def measures(self, step: int) -> dict[str, float]:
        """What was measured on the way to a checkpoint, as means over its segment."""
        note = json.loads((self.path(step) / NOTE).read_text(encoding="utf-8"))
        measures: dict[str, float] = note.get("measures", {})
        return measures

    def reject(self, step: int, attempt: int) -> Path | None:
        """Move a checkpoint out of the way of every resume. It is kept for whoever asks why."""
        source = self.path(step)
        if not source.exists():
            return None
        target = self.rejected / f"{source.name}.attempt{attempt}"
        number = 1
        while target.exists():
            number += 1
            target = self.rejected / f"{source.name}.attempt{attempt}.{number}"
        source.rename(target)
        artifacts.fsync(self.kept)
        artifacts.fsync(self.rejected)
        return target

    def rotate(self, most: int, keep: Collection[int]) -> None:
        """Delete the oldest checkpoints but `most` of them and those of the steps `keep`, and of
        the rejected ones all but the newest `most`.
        """
        kept = sorted(self.kept.glob("step-*"))
        protected = {self.path(step) for step in keep}
        # What must stay counts too, as far as there is room for more.
        room = max(0, most - len(protected.intersection(kept)))
        others = [folder for folder in kept if folder not in protected]
        rejected = sorted(self.rejected.iterdir(), key=lambda path: path.stat().st_mtime)
        for folder in (*others[: len(others) - room], *rejected[: max(0, len(rejected) - most)]):
            # Under a name that nobody looks for, so that a kill leaves no half of a checkpoint.
            leaving = self.home / f".leaving-{folder.name}"
            shutil.rmtree(leaving, ignore_errors=True)
            folder.rename(leaving)
            shutil.rmtree(leaving)

    def require(self, step: int) -> Path:
        """The folder to resume from. Raises UserError where it is gone or broken."""
        folder = self.path(step)
        problems = self._problems(folder) if folder.exists() else ["it is not there"]
        if problems:
            raise UserError(
                f"the checkpoint of step {step} can't be resumed from: {problems[0]}",
                file=folder,
                hint="restore that folder, or begin anew with --again",
            )
        return folder

    def _problems(self, folder: Path) -> list[str]:
        """What is wrong with a checkpoint. Every byte is read, but of a folder that this process
        has written or read whole, and whose files nobody has touched since.
        """
        stamps = _stamps(folder)
        if self._whole.get(folder) == stamps:
            return []
        problems = artifacts.verify(folder)
        if not problems:
            self._whole[folder] = stamps
        return problems


def _stamps(folder: Path) -> Stamps:
    """By what the file system tells one state of a folder's files from any other."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((str(p), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in found)


def _name_the_base(folder: Path, base: str) -> None:
    """An adapter names its base as the recipe does: peft notes the folder it was loaded from."""
    path = folder / ADAPTER_CONFIG
    if not path.exists():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Python's, NumPy's and torch's generators end up as they began, whatever happens inside.

    A scorer that samples would otherwise shift what the training draws next, and a training that
    was judged would differ from one that was not.
    """
    import random

    import numpy as np
    import torch

    # The states that a checkpoint holds (rng_state.pth): a training that goes on from it would
    # differ from one that was judged here if any of them had moved.
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
