"""Which checkpoints may be deleted: those that nothing refers to."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import files as artifacts
from harness.registry.lines import CANDIDATE, PromotedVersion
from harness.store.store import Store

# Digests that must stay although no line has promoted them lately, each with the reason.
_REFERRED_TO = """
    SELECT c.digest, 'an anchor or best checkpoint of a verdict' AS why
    FROM checkpoints c JOIN verdicts v ON c.run_id = v.anchor_run
    UNION
    SELECT c.digest, 'made by training ' || c.training_id || ', which is not finished'
    FROM checkpoints c JOIN trainings t USING (training_id)
    WHERE c.event = 'added' AND NOT EXISTS (
        SELECT 1 FROM training_events e
        WHERE e.training_id = c.training_id AND e.event = 'finished'
    )
    UNION
    SELECT digest, 'added since the last promotion: it may be waiting for its own'
    FROM checkpoints
    WHERE event = 'added' AND seq > (
        SELECT coalesce(max(seq), 0) FROM checkpoints WHERE event IN ('promoted', 'rolled_back')
    )
"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning frees and keeps. `freed`: digest and bytes on disk. `kept`: digest and why."""

    freed: tuple[tuple[str, int], ...]
    kept: tuple[tuple[str, str], ...]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.freed)


def plan(
    checkpoints: Sequence[Path],
    histories: Iterable[Sequence[PromotedVersion]],
    store: Store,
    keep: int,
    baselines: Path | None,
) -> Pruned:
    """What `Registry.prune` would free of the folders `checkpoints`. Deletes nothing.

    `histories` are the versions of each line, oldest first; `keep` is how many promoted digests
    of each line stay; `baselines` is the folder of committed bundles, or None.
    """
    reasons: dict[str, str] = {}
    for history in histories:
        recent = dict.fromkeys(version.digest for version in reversed(history))
        for place, digest in enumerate(list(recent)[:keep]):
            word = "promoted" if place == 0 else f"promoted {place} before"
            reasons.setdefault(digest, f"{history[-1].line}: {word}")
    for alias in sorted(store.workspace.lines.glob(f"*/{CANDIDATE}")):
        reasons.setdefault(alias.resolve().name, f"{alias.parent.name}: a canary runs with it")
    for row in store.query(_REFERRED_TO):
        reasons.setdefault(row["digest"], row["why"])
    for run_id in _baseline_runs(baselines):
        for row in store.query("SELECT digest FROM checkpoints WHERE run_id = ?", [run_id]):
            reasons.setdefault(row["digest"], "a committed baseline")
    return Pruned(
        freed=tuple(
            (folder.name, artifacts.size_of(folder))
            for folder in checkpoints
            if folder.name not in reasons
        ),
        kept=tuple((f.name, reasons[f.name]) for f in checkpoints if f.name in reasons),
    )


def delete(folder: Path) -> None:
    """Remove a checkpoint; renamed first, so that a half-deleted one is never found by its name."""
    doomed = folder.parent / f"{artifacts.STAGING}{uuid.uuid4().hex[:8]}"
    folder.rename(doomed)
    artifacts.fsync(folder.parent)
    shutil.rmtree(doomed)


def _baseline_runs(baselines: Path | None) -> list[str]:
    from harness.store.bundle import run_id_of

    if baselines is None or not baselines.is_dir():
        return []
    return [run_id_of(path.parent) for path in sorted(baselines.glob("*/run.json"))]
