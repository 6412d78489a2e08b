"""Runs rows through a pipeline's steps; what was done before is taken from the cache."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.digests import digest_of
from harness.core.files import write_atomic
from trainers.data.pipeline import Pipeline
from trainers.data.read import READ, Read, read_sources
from trainers.data.rows import Done, Drop, Placed, as_line
from trainers.data.step import Context

Progress = Callable[[str, int, int], None]
"""Is told (what is done, rows done, of how many)."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What one step did: rows that came, that it kept (with those it made), and that it dropped.
    `cached`: it was done before.
    """

    name: str
    signature: str
    came: int
    kept: int
    drops: tuple[Drop, ...]
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """The rows that are left, what each step did, and what was read."""

    rows: list[Placed]
    passed: tuple[Passed, ...]
    read: Read

    @property
    def drops(self) -> list[Drop]:
        return [drop for each in self.passed for drop in each.drops]


def build(pipeline: Pipeline, cache: Path | None, progress: Progress | None = None) -> Built:
    """Every step in order. A step's result is kept in the folder `cache` under the digest of the
    rows that were read and of the signatures up to it, so that a change in one step runs that one
    and those behind it. Raises UserError, also where nothing is left.
    """
    read = read_sources(pipeline)
    rows, drops = read.done
    passed = [Passed(READ, "", len(rows) + len(drops), len(rows), tuple(drops))]
    key = digest_of([pipeline.model.seed, read.digest])
    for number, (name, step) in enumerate(pipeline.steps, start=1):
        _require_rows(pipeline, passed)
        shown = f"{number}/{len(pipeline.steps)} {name}"
        context = _context(pipeline, shown, progress)
        if progress is not None:
            progress(shown, 0, len(rows))
        signature = step.signature(name, context)
        key = digest_of([key, signature])
        place = None if cache is None else cache / f"{key}.jsonl"
        done = None if place is None else _kept(place)
        came, cached = len(rows), done is not None
        if done is None:
            done = step.run(name, rows, context)
            if place is not None:
                _keep(place, done)
        rows = done[0]
        passed.append(Passed(name, signature, came, len(rows), tuple(done[1]), cached))
    _require_rows(pipeline, passed)
    return Built(rows, tuple(passed), read)


def _context(pipeline: Pipeline, shown: str, progress: Progress | None) -> Context:
    if progress is None:
        return Context(pipeline.folder, pipeline.model.seed)
    tell = progress
    return Context(
        pipeline.folder, pipeline.model.seed, lambda done, total: tell(shown, done, total)
    )


def _require_rows(pipeline: Pipeline, passed: Sequence[Passed]) -> None:
    last = passed[-1]
    if last.kept:
        return
    reasons = Counter(drop.reason for drop in last.drops).most_common()
    why = ", ".join(f"{reason} ({count})" for reason, count in reasons)
    where = ("sources",) if last.name == READ else ("steps", len(passed) - 2)
    raise pipeline.document.error(
        f"no row is left after {last.name}: {why or 'none came'}",
        where,
        hint=_first([drop for drop in last.drops if drop.reason == reasons[0][0]]),
    )


def _first(drops: Sequence[Drop]) -> str:
    if not drops:
        return "give it rows"
    placed, detail = drops[0].placed, drops[0].detail
    return f"the first was {placed.file} line {placed.line}{f': {detail}' if detail else ''}"


def _keep(place: Path, done: Done) -> None:
    rows, drops = done
    lines = [as_line({"rows": len(rows), "drops": len(drops)})]
    lines += [json.dumps(_written(row), ensure_ascii=False) for row in rows]
    lines += [
        json.dumps([_written(d.placed), d.step, d.reason, d.detail], ensure_ascii=False)
        for d in drops
    ]
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, "\n".join(lines) + "\n")


def _written(placed: Placed) -> list[object]:
    return [placed.file, placed.line, placed.id, placed.row, placed.parent]


def _kept(place: Path) -> Done | None:
    """What was kept of a step; None where there is nothing, or nothing whole."""
    try:
        lines = place.read_text(encoding="utf-8").rstrip("\n").split("\n")
        count = json.loads(lines[0])
        rows = [Placed(*json.loads(line)) for line in lines[1 : 1 + count["rows"]]]
        drops = [json.loads(line) for line in lines[1 + count["rows"] :]]
        if len(drops) != count["drops"]:
            return None
        return rows, [Drop(Placed(*placed), *rest) for placed, *rest in drops]
    except (OSError, ValueError, KeyError, TypeError):
        return None
