"""Reads and checks the files that `ratchet rate create` is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import UserError
from harness.core.types import Run
from harness.ratings.session import Gold
from harness.store.store import Store


def find_run(store: Store, name: str) -> Run:
    """A run by id, `run:ID` or `bundle:DIR`."""
    from harness.evaluation.references import find_named_run
    from harness.store.runs import require_run

    return find_named_run(name, store) or require_run(store, name)


def same_suite(runs: Sequence[Run], suite: Path | None) -> None:
    """Raises UserError where a run is of another suite than that file's."""
    if suite is None:
        return
    from harness.suite.load import load_suite

    wanted = load_suite(suite).name
    for run in runs:
        if run.suite != wanted:
            raise UserError(
                f"run {run.id} is of suite {run.suite!r}, not {wanted!r}",
                field="--suite",
                hint="name other runs, or leave --suite out",
            )


def read_golds(path: Path | None) -> list[Gold]:
    """Known pairs from JSONL. Raises UserError with file, line and field."""
    from harness.data.rows import read_rows

    if path is None:
        return []
    golds = []
    for line, row in read_rows(path):
        for name in ("prompt", "better", "worse"):
            if not isinstance(row.get(name), str):
                raise UserError(
                    f"a known pair needs a text {name!r}",
                    file=path,
                    line=line,
                    field=name,
                    hint='{"prompt": "…", "better": "…", "worse": "…"}',
                )
        golds.append(Gold(row["prompt"], row["better"], row["worse"]))
    return golds


def names(text: str) -> list[str]:
    """The parts of a comma-separated text, without blanks and empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def number(text: str, field: str) -> float:
    """The number in `text`. Raises UserError naming the option, `field`."""
    try:
        return float(text)
    except ValueError:
        raise UserError(
            f"{text!r} is not a number", field=field, hint="write it like 0.5"
        ) from None


def text_or_file(text: str) -> str:
    """The text of the file of that name where there is one, else the text as given."""
    if text and len(text) < 1024 and "\n" not in text and Path(text).is_file():
        return Path(text).read_text(encoding="utf-8").strip()
    return text
