"""Imports what promptfoo writes: whether each test passed, its score and its named scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Sample
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Point,
    Series,
    moment,
    read_as_written_by,
    read_json,
    task_name,
)
from harness.interop.importers.series import mean_of, point_of

Row = Mapping[str, Any]
_ERROR = 2
"""Of promptfoo's reasons why a test failed: not its assertions, but no answer was there."""


@read_as_written_by("promptfoo")
def read_promptfoo(path: Path, *, name: str | None = None) -> Imported:
    """The run in one JSON file of `promptfoo eval -o`, called `name`: each prompt is a task.

    Raises UserError for a file of several providers, and for one that isn't whole.
    """
    content = read_json(path)
    rows = _rows(content, path)
    provider = _provider(rows, path)
    described = task_name(str((content.get("config") or {}).get("description") or "promptfoo"))
    prompts = sorted({row.get("promptIdx") or 0 for row in rows})
    return Imported(
        source="promptfoo",
        model=name or str(provider.get("label") or provider.get("id")),
        tasks=tuple(
            _task(
                described if len(prompts) == 1 else f"{described}.{prompt + 1}",
                [row for row in rows if (row.get("promptIdx") or 0) == prompt],
                path,
            )
            for prompt in prompts
        ),
        subject={"backend": f"promptfoo {provider.get('id')}", "label": provider.get("label")},
        provenance={"promptfoo": (content.get("metadata") or {}).get("promptfooVersion")},
        measured_at=moment(content["results"].get("timestamp")),
        file=path,
    )


def _rows(content: Any, path: Path) -> list[Row]:
    summary = content.get("results") if isinstance(content, Mapping) else None
    rows = summary.get("results") if isinstance(summary, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(
            "these are not results of promptfoo",
            file=path,
            field="results.results",
            hint="write them with `promptfoo eval -o results.json`",
        )
    if not rows:
        raise UserError("the file holds no results", file=path, hint="run `promptfoo eval` again")
    stats = content["results"].get("stats") or {}
    counts = [stats.get(key) for key in ("successes", "failures", "errors")]
    told = sum(count for count in counts if isinstance(count, int))
    if stats and told != len(rows):
        raise UserError(
            f"{len(rows)} results are here, and promptfoo counted {told}",
            file=path,
            hint="write the whole file: `promptfoo eval -o results.json` without a filter",
        )
    return rows


def _provider(rows: Sequence[Row], path: Path) -> Row:
    found: dict[str, Row] = {}
    for row in rows:
        provider = row.get("provider") or {}
        found.setdefault(str(provider.get("label") or provider.get("id")), provider)
    if len(found) > 1:
        raise UserError(
            f"the file has results of {len(found)} providers: {', '.join(found)}",
            file=path,
            hint="write one file for each: `promptfoo eval --filter-providers NAME -o NAME.json`",
        )
    return next(iter(found.values()))


def _task(name: str, rows: Sequence[Row], path: Path) -> ImportedTask:
    samples: dict[str, Row] = {}
    for row in rows:
        key = str(row["testIdx"])
        if key in samples:
            raise UserError(f"test {key} is there twice", file=path, field="testIdx")
        samples[key] = row
    documents = sorted(
        (key, digest_of([_asked(row), (row.get("testCase") or {}).get("assert")]))
        for key, row in samples.items()
    )
    named = dict.fromkeys(key for row in rows for key in row.get("namedScores") or {})
    return ImportedTask(
        name=name,
        protocol={"data": {"documents": digest_of(documents), "n": len(documents)}},
        metrics=tuple(
            _series(metric, samples) for metric in dict.fromkeys(("pass", "score", *named))
        ),
        samples=tuple(
            Sample(id=key, task=name, fields=row.get("vars") or {}, prompt=tuple(_asked(row)))
            for key, row in samples.items()
        ),
        answers=tuple(Answer(key, 0, _answer(row), _error(row)) for key, row in samples.items()),
    )


def _asked(row: Row) -> list[dict[str, str]]:
    """The prompt as it was sent: a JSON list of messages is a conversation, all else one turn."""
    prompt = row.get("prompt")
    raw = str(prompt.get("raw") if isinstance(prompt, Mapping) else prompt)
    try:
        turns = json.loads(raw) if raw.lstrip().startswith("[") else None
    except ValueError:
        turns = None
    if isinstance(turns, list) and all(isinstance(t, dict) and "content" in t for t in turns):
        return [{"role": str(t.get("role")), "content": _as_text(t["content"])} for t in turns]
    return [{"role": "user", "content": raw}]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _answer(row: Row) -> str:
    return _as_text((row.get("response") or {}).get("output"))


def _error(row: Row) -> str | None:
    """Why there was no answer; None where a test's assertions rejected the one there was."""
    told = (row.get("response") or {}).get("error")
    if row.get("failureReason") != _ERROR and not told:
        return None
    return " ".join(str(told or row.get("error") or "the test failed").split())[:300]


def _series(metric: str, samples: Mapping[str, Row]) -> Series:
    points = [
        point for key, row in samples.items() if (point := _point(metric, key, row)) is not None
    ]
    return mean_of(metric, points, measure=f"{metric}|promptfoo")


def _point(metric: str, key: str, row: Row) -> Point | None:
    """None where the test has no assertion of that name."""
    named = row.get("namedScores") or {}
    error = _error(row)
    if error is not None:
        asked = {one.get("metric") for one in (row.get("testCase") or {}).get("assert") or []}
        return point_of(key, None, error=error) if metric in ("pass", "score", *asked) else None
    if metric not in named and metric not in ("pass", "score"):
        return None
    found = named.get(metric, row.get("success") if metric == "pass" else row.get("score"))
    return point_of(key, found)
