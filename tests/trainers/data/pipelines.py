"""Pipelines over a few rows, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trainers.data.build import Built, build
from trainers.data.pipeline import Pipeline, load_pipeline

LINES = [
    '{"q": "How do I reset it?", "a": "Press the button for ten seconds."}',
    '{"q": "broken',
    '{"q": "HOW do I  reset it?", "a": "Press the button for ten seconds."}',
    '{"q": "?", "a": "n"}',
    '{"q": "Как это сбросить сейчас?", "a": "Нажмите на кнопку и подождите"}',
    '{"q": "怎么重置这个设备?", "a": "写信给 ana@example.com 就可以"}',
    "[1]",
    '{"q": "no answer"}',
]
STEPS: Sequence[Any] = (
    "clean",
    "length",
    {"language": {"keep": ["en", "zh"]}},
    "exact",
    "personal",
)
SHAPED = {"source": "rows.jsonl", "prompt": {"user": "{{ q }}"}, "completion": "{{ a }}"}


def pipeline(
    folder: Path,
    steps: Sequence[Any] = STEPS,
    *,
    rows: Sequence[dict[str, Any]] | None = None,
    source: dict[str, Any] | None = None,
    **keys: Any,
) -> Pipeline:
    """A pipeline in `folder`, over `rows` as they are, or over LINES as questions and answers."""
    lines = LINES if rows is None else [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = source or (SHAPED if rows is None else {"source": "rows.jsonl"})
    keys = {"name": "support", "sources": [given], "steps": list(steps), **keys}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return load_pipeline(path)


def built(folder: Path, steps: Sequence[Any] = STEPS, **keys: Any) -> Built:
    return build(pipeline(folder, steps, **keys), folder / "cache")
