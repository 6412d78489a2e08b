"""Holds rows as they are against a pipeline's requirements and suites; builds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainers.data.contamination import Contamination
from trainers.data.pipeline import Pipeline
from trainers.data.read import read_sources
from trainers.data.requirements import Figure, figures
from trainers.data.rows import Drop, Placed
from trainers.data.step import Context


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read, what could not be, what is in a suite, and each requirement's figure."""

    rows: Sequence[Placed]
    unread: Sequence[Drop]
    leaked: Sequence[Drop]
    figures: Sequence[Figure]

    @property
    def holds(self) -> bool:
        """Whether nothing is refused and no sample of a suite is among the rows."""
        return not self.leaked and all(figure.outcome != "refused" for figure in self.figures)


def checked(pipeline: Pipeline, source: str | None = None) -> Checked:
    """The pipeline's sources, or `source` in their place, a path from here, read by the first
    one's templates. Raises UserError.
    """
    if source is not None:
        path = Path(source)
        named = str(path.absolute()) if path.exists() else source
        first = pipeline.model.sources[0].model_copy(update={"source": named})
        model = pipeline.model.model_copy(update={"sources": (first,)})
        pipeline = replace(pipeline, model=model)
    rows, unread = read_sources(pipeline).done
    if not rows:
        raise pipeline.document.error(
            f"no row can be read: {unread[0].detail or unread[0].reason}",
            ("sources",),
            hint=f"the first was {unread[0].placed.file} line {unread[0].placed.line}",
        )
    context = Context(pipeline.folder, pipeline.model.seed)
    leaked: list[Drop] = []
    for name, step in pipeline.steps:
        if isinstance(step, Contamination):
            leaked += step.run(name, rows, context)[1]
    found = figures(pipeline.model.requirements, rows, pipeline.folder)
    return Checked(rows, unread, leaked, found)
