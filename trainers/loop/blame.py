"""The rows that a failed checkpoint's loss is laid to, for the remedy `skip_rows`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.store.store import Store
from trainers.explain.lost import lost_samples
from trainers.explain.taught import Row, first_checkpoint, rows_that_taught, segment_checkpoints
from trainers.loop.record import TrainingRecord
from trainers.loop.remedies import Failure, learned_in
from trainers.loop.reporter import Reporter

SHARE = 0.05
"""Of a segment's rows that one rollback leaves out at most, the most harmful first: what is left
may be right, and a checkpoint that fails again has the next ones left out."""


@dataclass(frozen=True, slots=True)
class Blame:
    """The rows to leave out; `why_not` says why there are none."""

    rows: tuple[Row, ...] = ()
    why_not: str = ""

    def told(self) -> dict[str, Any]:
        """For the training's history."""
        if self.why_not:
            return {"rows_not_named": self.why_not}
        return {"rows": [as_stored(row) for row in self.rows]} if self.rows else {}


def as_stored(row: Row) -> dict[str, Any]:
    example = row.example
    return {
        "number": row.number,
        "row": example.name,
        "file": example.file.name,
        "line": example.line,
        "share": row.share,
    }


def skipped_by(detail: Mapping[str, Any]) -> list[int]:
    """The rows that a rollback of such a detail left out: numbers of the stage's examples."""
    return [int(row["number"]) for row in detail.get("rows", ())]


def rows_to_skip(record: TrainingRecord, failure: Failure, reporter: Reporter) -> Blame:
    """The most harmful rows of the failed segment: by their influence on what its verdict found
    worse. None where it failed without a verdict, or nothing can be said of its rows.
    """
    if failure.judged is None:
        return Blame(why_not="it failed without a verdict")
    run, state = record.run, record.state
    learned = learned_in(run.stage, record.plan, state, failure.step)
    reporter.say(
        f"Asking which of {len(set(learned))} rows taught step {failure.step} what it lost"
    )
    store = record.store
    try:
        lost = lost_samples(store, _failed(store, failure.judged.verdicts))
        checkpoints = segment_checkpoints(record.folder, run.stage, failure.step, state.attempt)
        first = None
        if run.stage.model.trainer == "dpo":
            first = first_checkpoint(record.folder, run.recipe, run.stage, state.attempt)
        taught = rows_that_taught(
            run.recipe,
            run.stage,
            run.base,
            checkpoints,
            learned,
            lost,
            workspace=run.workspace,
            first=first,
            weights=run.settled.weights,
            progress=lambda done, of: reporter.progress("rows", done, of),
        )
    except UserError as error:
        return Blame(why_not=error.what)
    most = math.ceil(SHARE * len(taught.rows))
    rows = taught.harmful[:most]
    return Blame(rows, "" if rows else "no row did harm by itself")


def _failed(store: Store, verdicts: Sequence[str]) -> str:
    """The first of a checkpoint's verdicts that is a FAIL."""
    marks = ", ".join("?" * len(verdicts))
    rows = store.query(
        f"SELECT verdict_id FROM verdicts WHERE verdict_id IN ({marks}) "
        "ORDER BY outcome = 'fail' DESC, seq",
        list(verdicts),
    )
    return str(rows[0]["verdict_id"])
