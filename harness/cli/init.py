"""`ratchet init`: looks at a file of rows, and writes a first suite for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.data.columns import Column
    from harness.suite.guess import Guess


def init(
    file: Annotated[Path, typer.Argument(help="Rows: JSONL, CSV or Parquet.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The suite. Default: the file's name with .yaml, beside it."),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", help="The column that is asked.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="The column with right answers; - for none.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="What a row is: chat, preference, choice, code, label, number, json, answer, "
            "text, prompt, passage.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the suite.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> None:
    """Write a first suite for a file of questions, conversations or texts.

    Shows what the file holds, asks at most three questions (none with --yes, or
    where the input is no terminal), and writes a suite that checks.
    """
    from rich.console import Console

    from harness.data.columns import columns_of
    from harness.data.rows import read_rows
    from harness.suite.draft import draft
    from harness.suite.guess import guess, told

    console = Console()
    place = out or file.with_name(f"{file.name.partition('.')[0]}.yaml")
    if place.exists() and not force:
        raise UserError(
            "there is such a file already", file=place, hint="--force overwrites it, or name --out"
        )
    rows = [row for _, row in read_rows(file)]
    columns = columns_of(rows)
    _show(columns, len(rows), file, console)
    found = guess(columns, rows)
    if yes or not sys.stdin.isatty():
        found = told(found, columns, len(rows), question=question, answer=answer, kind=kind)
    else:
        found = _ask(found, columns, len(rows), (question, answer, kind))
    made = draft(found, rows, name=place.stem, data=_beside(file, place))
    _write(made.text, place)
    _say(found, made.task, made.metric, made.notes, place, console)


def _show(columns: Sequence[Column], rows: int, file: Path, console: Console) -> None:
    from harness.report.table import FittedTable

    console.print(f"{file.name}: {rows:,} rows", markup=False, highlight=False)
    table = FittedTable(
        ("column", "kind", "filled", "different", "length", "what"), frozenset({"what"})
    )
    for one in columns:
        table.add(
            one.name,
            one.kind,
            f"{one.filled:.0%}",
            f"{one.distinct:,}",
            f"{one.length:.0f}",
            _what(one, rows),
        )
    console.print(table)


def _what(column: Column, rows: int) -> str:
    """Its few values, else its languages."""
    from harness.report.table import shortened

    if column.values and column.says and column.distinct * 2 <= rows:
        shown = ", ".join(shortened(str(value), 20) for value in column.values[:4])
        return f"{shown}, …" if len(column.values) > 4 else shown
    return ", ".join(column.languages[:4])


def _ask(
    found: Guess,
    columns: Sequence[Column],
    rows: int,
    given: tuple[str | None, str | None, str | None],
) -> Guess:
    """The guess as the person at the terminal mends it; what an option says isn't asked."""
    from harness.suite.guess import KINDS, told

    question, answer, kind = given
    names = ", ".join(column.name for column in columns)
    if question is None:
        now = found.question.name if found.question else None
        question = _answered(f"Which column is asked? ({names})", now)
    found = told(found, columns, rows, question=_other(question, found.question))
    if answer is None and found.kind != "chat":
        now = found.answer.name if found.answer else "-"
        answer = _answered("Which has the right answers? (- for none)", now)
    if answer is not None and answer != (found.answer.name if found.answer else "-"):
        found = told(found, columns, rows, answer=answer)
    if kind is None:
        kind = _answered(f"What is a row? ({', '.join(KINDS)})", found.kind)
    return told(found, columns, rows, kind=kind)


def _other(name: str, column: Column | None) -> str | None:
    return None if column is not None and column.name == name else name


def _answered(question: str, default: str | None) -> str:
    return str(typer.prompt(question, default=default)).strip()


def _beside(file: Path, place: Path) -> str:
    """The data as the suite names it: relative to the suite."""
    return os.path.relpath(file.resolve(), place.resolve().parent)


def _write(text: str, place: Path) -> None:
    """Write it where it loads; nothing is written where it doesn't."""
    from harness.suite.load import load_suite

    place.parent.mkdir(parents=True, exist_ok=True)
    trial = place.with_name(f".{place.name}.draft")
    try:
        trial.write_text(text, encoding="utf-8")
        load_suite(trial)
        trial.replace(place)
    except UserError as error:
        of_trial = str(error.file) == str(trial)
        raise UserError(
            f"the rows don't make such a suite: {error.what}",
            file=None if of_trial else error.file,
            line=None if of_trial else error.line,
            hint=f"{error.hint or 'mend the rows'}; or say what they are: --question, --answer, "
            "--kind",
        ) from error
    finally:
        trial.unlink(missing_ok=True)


def _say(
    found: Guess, task: str, metric: str, notes: Sequence[str], place: Path, console: Console
) -> None:
    from harness.suite.guess import KINDS

    lines = [
        f"\n{place}: {KINDS[found.kind]} ({found.kind}); {task}/{metric} decides",
        *(f"  {note}" for note in notes),
        "next:",
        f"  ratchet suites check {place}",
        f"  ratchet score MODEL --suite {place}",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
