"""Reads a pipeline's sources into rows of the shapes that recipes learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Row
from harness.data import templates
from harness.data.datasets import DATASET, is_dataset, named_version
from harness.data.messages import MessagesError, read_tools
from harness.data.rows import row_id
from harness.data.sources import read_source
from trainers.config.conversation import conversation, is_conversation
from trainers.config.examples import wanted
from trainers.data.pipeline import Pipeline
from trainers.data.rows import Done, Drop, Placed, Why, as_line
from trainers.data.schema import PipelineSource

READ = "read"
"""What the funnel and the drops call the reading itself."""


@dataclass(frozen=True, slots=True)
class Read:
    """The rows of all sources with what could not be read, how many each source gave with a digest
    of them, and the versions of data sets that are among the sources.
    """

    done: Done
    sources: tuple[Mapping[str, Any], ...]
    parents: tuple[Mapping[str, Any], ...]

    @property
    def digest(self) -> str:
        """Of every row and where it stands."""
        told = hashlib.sha256(repr([dict(source) for source in self.sources]).encode())
        return told.hexdigest()[:16]


def read_sources(pipeline: Pipeline) -> Read:
    """Every source in order. A line that can't be read, or that its template can't be filled from,
    is a drop. Raises UserError for a source that isn't there.
    """
    rows: list[Placed] = []
    drops: list[Drop] = []
    told: list[Mapping[str, Any]] = []
    parents: list[Mapping[str, Any]] = []
    for number, source in enumerate(pipeline.model.sources):
        try:
            if is_dataset(source.source):
                version = named_version(source.source, pipeline.folder)
                license_ = version.meta.get("license")
                parents.append(
                    {"dataset": str(version), "digest": version.digest, "license": license_}
                )
            kept, lost = _read(source, pipeline.folder)
        except UserError as error:
            if error.file is not None:
                raise
            place = ("sources", number, "source")
            raise pipeline.document.error(error.what, place, hint=error.hint) from None
        rows += kept
        drops += lost
        digest = hashlib.sha256()
        for placed in kept:
            line = f"{placed.file}\0{placed.line}\0{placed.id}\0{as_line(placed.row)}\n"
            digest.update(line.encode())
        told.append(
            {
                "source": source.source,
                "rows": len(kept),
                "digest": digest.hexdigest()[:16],
                "license": source.license,
            }
        )
    return Read((rows, drops), tuple(told), tuple(parents))


def _read(source: PipelineSource, folder: Path) -> Done:
    kept: list[Placed] = []
    drops: list[Drop] = []

    def broken(error: UserError) -> None:
        name = _named(Path(error.file or ""), folder, source.source)
        placed = Placed(name, error.line or 0, "", {})
        drops.append(Drop(placed, READ, "the line can't be read", error.what))

    for found in read_source(source.source, folder, split="train", broken=broken):
        name = _named(found.file, folder, source.source)
        own = found.row.get("id")
        # A number may be an id as well; a row without one is named by what it says.
        placed = Placed(name, found.line, str(own if own is not None else row_id(found.row)), {})
        made = _shaped(source, found.row, found.from_table)
        if isinstance(made, Why):
            whole = Placed(name, found.line, placed.id, dict(found.row))
            drops.append(Drop(whole, READ, made.reason, made.detail))
            continue
        parent = str(found.row.get("parent") or "") if is_dataset(source.source) else ""
        row = {"id": placed.id, **{k: v for k, v in made.items() if k != "id"}}
        if parent:
            row = {key: value for key, value in row.items() if key != "parent"}
        kept.append(Placed(name, found.line, placed.id, row, parent))
    return kept, drops


def _named(file: Path, folder: Path, source: str) -> str:
    """A file as it is named on every machine: from the pipeline's folder, or as the source says."""
    if is_dataset(source):
        return f"{source.removeprefix(DATASET)}/{file.name}"
    try:
        return file.relative_to(folder).as_posix()
    except ValueError:
        return file.name if Path(source).name == file.name else source


def _shaped(source: PipelineSource, fields: Row, sparse: bool) -> Row | Why:
    """The row as its templates make it, or why they can't."""
    try:
        if not wanted(fields, source.where):
            return Why("not asked for by `where`")
        made = _filled(source, fields) if source.shaped else dict(fields)
        as_line(made)
    except (templates.TemplateError, MessagesError) as error:
        return Why("the template can't be filled", str(error))
    except (TypeError, ValueError) as error:
        return Why("a value that JSON can't hold", str(error))
    empty = next((name for name in ("text", "completion") if made.get(name) == ""), None)
    return Why(f"the {empty} is empty") if source.shaped and empty else made


def _filled(source: PipelineSource, fields: Row) -> Row:
    made: Row = {}
    if source.prompt is not None:
        fill = {"system": templates.system_turn, "user": templates.render}
        turns = source.prompt.messages(lambda key, template: fill[key](template, fields))
        made["messages"] = list(turns)
    if source.messages is not None:
        made["messages"] = list(conversation(templates.value(source.messages, fields), "keep"))
    if source.tools is not None:
        given = templates.value(source.tools, fields)
        made["tools"] = [] if given is None else list(read_tools(given))
    for name in ("completion", "text", "chosen", "rejected"):
        if (template := getattr(source, name)) is not None:
            made[name] = _said(template, fields)
    if source.label is not None:
        made["label"] = templates.render(source.label, fields)
    for name in source.keep:
        if name not in fields:
            raise templates.TemplateError(
                f"{name!r} of `keep` is not a field; the row's fields are: {', '.join(fields)}"
            )
        made[name] = fields[name]
    return made


def _said(template: str, fields: Row) -> Any:
    """An answer: a text, or the turns of a conversation that ends with it."""
    try:
        return templates.render(template, fields)
    except templates.TemplateError:
        value = templates.value(template, fields)
        if not is_conversation(value):
            raise
        return list(conversation(value, "keep"))
