"""Passages that a task looks up for each of its questions before it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ConfigDict, Field

from harness.core.errors import UserError
from harness.core.strict_model import StrictModel
from harness.data.bm25 import Index, Passage
from harness.data.rows import row_id
from harness.data.sources import SourceRow

CONTEXTS = "contexts"
"""The field that a row gains: a list of `{id, text}`, best first."""


class RetrieveModel(StrictModel):
    """The `k` passages of the file `from` that fit `query` best, a template over the row's fields.

    They are found by BM25 (see `harness.data.bm25`) and stand in the row's field `contexts`, so
    what is found is part of the prompts and thus of the protocol.
    """

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from")
    query: str
    k: int = Field(3, ge=1, le=100)

    @property
    def protocol(self) -> dict[str, Any]:
        """What two runs must share of it. The passages themselves are part of the samples."""
        return {"query": self.query, "k": self.k, "by": "bm25"}


@dataclass(frozen=True)
class Retrieval:
    """The passages of a task, ready to be found."""

    model: RetrieveModel
    index: Index

    def into(self, found: SourceRow, query: str) -> SourceRow:
        """The row with its passages."""
        if CONTEXTS in found.row:
            raise UserError(
                f"the row has a field {CONTEXTS!r}, where `retrieve` puts what it finds",
                file=found.file,
                line=found.line,
                field=CONTEXTS,
                hint="give the field another name, or leave `retrieve` out",
            )
        passages = self.index.find(query, self.model.k)
        contexts = [{"id": one.id, "text": one.text} for one in passages]
        return replace(found, row={**found.row, CONTEXTS: contexts})


def retrieval_of(model: RetrieveModel, rows: Sequence[SourceRow]) -> Retrieval:
    """The index of a file's rows, each with a `text` and an `id` (by its content where it has
    none). Raises UserError for a row without a text, and for an id that comes twice.
    """
    passages: dict[str, Passage] = {}
    for found in rows:
        text = found.row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                "the passage has no text",
                file=found.file,
                line=found.line,
                field="text",
                hint='a passage is a row such as {"id": "p1", "text": "…"}',
            )
        name = str(found.row.get("id") or row_id(found.row))
        if name in passages:
            raise UserError(
                f"the id {name!r} is used twice",
                file=found.file,
                line=found.line,
                field="id",
                hint="an answer cites a passage by its id, so each has its own",
            )
        passages[name] = Passage(name, text)
    return Retrieval(model, Index(list(passages.values())))
