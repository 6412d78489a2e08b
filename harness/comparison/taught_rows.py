"""The rows that taught a checkpoint what it lost, as they were found once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.core.files import write_atomic
from harness.core.workspace import Workspace
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class TaughtRow:
    """A row by file and line, its share of all harm that rows of the segment did (0 to 1), and what
    is learned of it, cut; empty where only its place was kept.
    """

    place: str
    share: float
    said: str = ""


@dataclass(frozen=True, slots=True)
class TaughtRows:
    """The most harmful of `asked` rows, of which `harmful` did harm, from step `begin` to `end` of
    a training, by `samples` samples that lost; the numbers are 0 where they were not kept.
    """

    rows: tuple[TaughtRow, ...]
    asked: int = 0
    harmful: int = 0
    samples: int = 0
    begin: int = 0
    end: int = 0


def keep_taught(workspace: Workspace, training: str, verdict_id: str, found: TaughtRows) -> None:
    """Beside the training, for pages and reports; goes with it."""
    folder = workspace.trainings / training / "explained"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{verdict_id}.json", json.dumps(asdict(found), ensure_ascii=False))


def taught_rows(store: Store, workspace: Workspace, verdict_id: str) -> TaughtRows | None:
    """What `ratchet explain` kept of a stored verdict, or else the remedy `skip_rows`; None where
    neither asked.
    """
    [verdict] = store.query(
        "SELECT training_id, step FROM verdicts WHERE verdict_id = ?", [verdict_id]
    )
    training = verdict["training_id"]
    if training is None:
        return None
    place = workspace.trainings / training / "explained" / f"{verdict_id}.json"
    try:
        return _read(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return _left_out(store, training, verdict_id)


def _read(kept: Mapping[str, Any]) -> TaughtRows:
    rows = tuple(TaughtRow(**row) for row in kept["rows"])
    return TaughtRows(**{**kept, "rows": rows})


def _left_out(store: Store, training: str, verdict_id: str) -> TaughtRows | None:
    """Those that a rollback on this verdict left out."""
    backs = store.query(
        "SELECT detail FROM training_events WHERE training_id = ? AND event = 'rolled_back' "
        "ORDER BY seq DESC",
        [training],
    )
    for detail in (back["detail"] or {} for back in backs):
        if verdict_id in (detail.get("verdicts") or ()) and detail.get("rows"):
            places = [f"{row['file']}:{row['line']}" for row in detail["rows"]]
            shares = [float(row["share"]) for row in detail["rows"]]
            return TaughtRows(tuple(map(TaughtRow, places, shares)))
    return None
