"""Writes versions of a data set: folders that are whole or absent, and never changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.files import staged
from harness.data.datasets import META, Version, numbers_of, read_version
from harness.watch.intake.masking import mask_json
from trainers.data.build import Built, Passed
from trainers.data.language import language_of
from trainers.data.near import alike_pairs
from trainers.data.pipeline import Pipeline
from trainers.data.requirements import Figure
from trainers.data.rows import SHAPED, Drop, Placed, as_line, said
from trainers.data.split import groups_of, held_out

_EXAMPLES = 3
_FEW_VALUES = 20
"""Examples of each reason, and different values up to which a column is one of classes."""


def write_version(pipeline: Pipeline, built: Built, figures: Sequence[Figure] = ()) -> Version:
    """The version that holds these rows, made by these steps: one that is there already, or a new
    one. `figures` are the lines of the requirements. Raises UserError.
    """
    train, valid = _parts(pipeline, built)
    files = {
        "train.jsonl": _lines(train),
        "valid.jsonl": _lines(valid),
        "drops.jsonl": "".join(as_line(_dropped(drop)) + "\n" for drop in built.drops).encode(),
    }
    meta = _meta(pipeline, built, train, valid, files)
    meta["requirements"] = [figure.written() for figure in figures]
    meta["digest"] = digest_of(meta)
    with _alone(pipeline.target):
        numbers = numbers_of(pipeline.target)
        for number in reversed(numbers):
            known = read_version(pipeline.target / f"v{number}")
            if known.digest == meta["digest"]:
                return known
        place = pipeline.target / f"v{max(numbers, default=0) + 1}"
        with staged(place, manifest=False) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            text = json.dumps(meta, ensure_ascii=False, indent=1) + "\n"
            (folder / META).write_text(text, encoding="utf-8")
    return read_version(place)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of a data set at a time: two would both take the next number."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _parts(pipeline: Pipeline, built: Built) -> tuple[list[Placed], list[Placed]]:
    model, rows = pipeline.model, built.rows
    if model.validation == 0:
        return rows, []
    alike = list(alike_pairs(["\n".join(said(placed.row)) for placed in rows]))
    groups = groups_of(rows, by=model.group_by, alike=alike)
    held = held_out(rows, groups, model.validation, model.seed)
    train = [placed for placed, out in zip(rows, held, strict=True) if not out]
    valid = [placed for placed, out in zip(rows, held, strict=True) if out]
    if not train or not valid:
        raise pipeline.document.error(
            f"{len(rows)} rows in {len(set(groups))} groups can't be split with a share of "
            f"{model.validation}",
            ("validation",),
            hint="give more rows, or another share",
        )
    return train, valid


def _lines(rows: Sequence[Placed]) -> bytes:
    return "".join(as_line(_row(placed)) + "\n" for placed in rows).encode()


def _row(placed: Placed) -> dict[str, Any]:
    row = {"id": placed.id, **{k: v for k, v in placed.row.items() if k not in ("id", "parent")}}
    return {**row, "parent": placed.parent} if placed.parent else row


def _dropped(drop: Drop) -> dict[str, Any]:
    at = {"id": drop.placed.id, "file": drop.placed.file, "line": drop.placed.line}
    return {**at, "step": drop.step, "reason": drop.reason, "detail": mask_json(drop.detail)[0]}


def _meta(
    pipeline: Pipeline,
    built: Built,
    train: Sequence[Placed],
    valid: Sequence[Placed],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    options = [step.model_dump(mode="json") for _, step in pipeline.steps]
    return {
        "format": 1,
        "name": pipeline.model.name,
        "note": pipeline.model.note,
        "license": pipeline.model.license,
        "seed": pipeline.model.seed,
        "validation": pipeline.model.validation,
        "group_by": pipeline.model.group_by,
        "rows": {"train": len(train), "valid": len(valid)},
        "sources": list(built.read.sources),
        "parents": list(built.read.parents),
        "steps": [
            _told(each, chosen) for each, chosen in zip(built.passed, [{}, *options], strict=True)
        ],
        "distribution": distribution([*train, *valid]),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


def _told(passed: Passed, options: Mapping[str, Any]) -> dict[str, Any]:
    reasons = Counter(drop.reason for drop in passed.drops)
    return {
        "step": passed.name,
        "options": options,
        "signature": passed.signature,
        "came": passed.came,
        "kept": passed.kept,
        "dropped": len(passed.drops),
        "drops": [
            {"reason": reason, "rows": count, "examples": _examples(passed.drops, reason)}
            for reason, count in sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
        ],
    }


def _examples(drops: Sequence[Drop], reason: str) -> list[dict[str, Any]]:
    """The first few, without personal data: that is what some were dropped for."""
    some = [drop for drop in drops if drop.reason == reason][:_EXAMPLES]
    return [{**_dropped(drop), "row": mask_json(drop.placed.row)[0]} for drop in some]


def distribution(rows: Sequence[Placed]) -> dict[str, Any]:
    """Languages, lengths in characters (quantiles), shapes, and the values of columns that have at
    most 20.
    """
    lengths = sorted(sum(map(len, said(placed.row))) for placed in rows)
    shapes = Counter("+".join(n for n in SHAPED if n in p.row) or "columns" for p in rows)
    languages = Counter(language_of(placed.row) or "und" for placed in rows)
    return {
        "languages": dict(languages.most_common()),
        "characters": {
            name: lengths[round(share * (len(lengths) - 1))]
            for name, share in (("min", 0), ("p10", 0.1), ("median", 0.5), ("p90", 0.9), ("max", 1))
        },
        "shapes": dict(shapes.most_common()),
        "columns": _classes(rows),
    }


def _classes(rows: Sequence[Placed]) -> dict[str, dict[str, int]]:
    values: dict[str, Counter[str]] = {}
    many: set[str] = set()
    for placed in rows:
        for name, value in placed.row.items():
            if name in many or name in ("id", *SHAPED) or not isinstance(value, str | bool | int):
                continue
            counts = values.setdefault(name, Counter())
            counts[value if isinstance(value, str) else json.dumps(value)] += 1
            if len(counts) > _FEW_VALUES:
                many.add(name)
    return {
        name: dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
        for name, counts in sorted(values.items())
        if name not in many
    }
