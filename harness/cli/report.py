"""`ratchet report`: one run as an HTML page, or at the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import ALL_SHOWS, AllOption
from harness.core.protocol import MetricName

if TYPE_CHECKING:
    from harness.core.types import Run
    from harness.gate.verdict import MetricVerdict
    from harness.gate.verdict import Moved as MovedMost
    from harness.report.html import Judged, Moved
    from harness.report.zh_report import Language
    from harness.store.store import Store

SAMPLES = 10


def report(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    html: Annotated[
        bool, typer.Option("--html", help="Write one self-contained HTML file.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write its last verdict, and why, as Markdown.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write. Default: report-RUN.html or .md."),
    ] = None,
    everything: AllOption = False,
    lang: Annotated[str, typer.Option("--lang", help="Of the HTML page: en or zh.")] = "en",
) -> None:
    """Show a run: its metrics, its last verdict, and the samples that moved most.

    With --html as one file that needs no server, has no script and loads nothing.
    """
    from rich.console import Console

    from harness.cli.run_table import show_run
    from harness.comparison.evidence import summarize
    from harness.core.files import write_atomic
    from harness.core.workspace import Workspace
    from harness.report.console import verdict_view
    from harness.report.html import to_html
    from harness.report.zh_report import language_of
    from harness.store.runs import require_run
    from harness.store.store import Store

    language = language_of(lang)
    console = Console()
    with Store(Workspace.at()) as store:
        found = require_run(store, run.removeprefix("run:"))
        judged = _judged(store, found)
        if markdown:
            place = output or Path(f"report-{found.id}.md")
            write_atomic(place, _as_markdown(store, found, judged, html))
            console.print(f"{place}", markup=False, highlight=False, soft_wrap=True)
            return
        if not html and output is None:
            show_run(found, store, console)
            for said in _standing(store, found, "en"):
                console.print(said, markup=False, highlight=False, soft_wrap=True)
            if judged is not None:
                console.print()
                console.print(verdict_view(judged.verdict, everything=everything, more=ALL_SHOWS))
            return
        moved = _moved(store, found, judged) if judged is not None else []
        page = to_html(
            found,
            summarize(store, found),
            judged,
            moved,
            _standing(store, found, language),
            language=language,
        )
    place = output or Path(f"report-{found.id}.html")
    write_atomic(place, page)
    console.print(f"{place}", markup=False, highlight=False, soft_wrap=True)


def _as_markdown(store: Store, run: Run, judged: Judged | None, html: bool) -> str:
    from harness.core.errors import UserError
    from harness.report.explained import explained_markdown
    from harness.report.markdown import to_markdown

    if html:
        raise UserError(
            "--html and --markdown are two files",
            field="--markdown",
            hint="ask for one of them, then for the other",
        )
    if judged is None:
        raise UserError(
            f"the run {run.id} has no verdict to write as Markdown",
            field="RUN",
            hint="gate it first: ratchet gate run:ID --against ANCHOR",
        )
    why = explained_markdown(store, store.workspace, judged.id)
    return to_markdown(judged.verdict, title=run.model, why=why)


def _standing(store: Store, run: Run, language: Language) -> list[str]:
    """What each line has to say of a run, in sentences that begin with the line's name."""
    from harness.comparison.line_reading import states
    from harness.comparison.line_words import of_run
    from harness.report.zh_line import in_words

    colon = "：" if language == "zh" else ": "
    return [
        f"{state.line}{colon}{in_words(said, language)}"
        for state in states(store)
        for said in of_run(state, run.id, run.model_digest)
    ]


def _judged(store: Store, run: Run) -> Judged | None:
    """The last verdict on a run."""
    from harness.gate.verdict import Verdict
    from harness.report.html import Judged

    rows = store.query(
        "SELECT verdict_id, detail, anchor_run FROM verdicts WHERE candidate_run = ? "
        "ORDER BY seq DESC LIMIT 1",
        [run.id],
    )
    if not rows:
        return None
    verdict = Verdict.from_dict(rows[0]["detail"])
    return Judged(rows[0]["verdict_id"], verdict, f"run {rows[0]['anchor_run'] or 'none'}")


def _moved(store: Store, run: Run, judged: Judged) -> list[Moved]:
    """The samples that moved most, of the metrics that failed or else of the required ones."""
    from harness.report.html import Moved

    rows = judged.verdict.failing() or [row for row in judged.verdict.rows if row.required]
    anchor = judged.against.removeprefix("run ")
    found: list[Moved] = []
    for row, moved in islice(_in_turn(rows), SAMPLES):
        task = MetricName.parse(row.metric).task
        said = (_said(store, anchor, task, moved.id), _said(store, run.id, task, moved.id))
        asked = _asked(store, run, task, moved.id)
        found.append(
            Moved(row.name, moved.id, moved.anchor, moved.candidate, asked, said[0], said[1])
        )
    return found


def _in_turn(rows: Sequence[MetricVerdict]) -> Iterator[tuple[MetricVerdict, MovedMost]]:
    """What moved most of each row, then the second of each, and so on: not ten of one kind. A
    sample is shown once.
    """
    worst = [[one for one in row.measured.moved if one.anchor != one.candidate] for row in rows]
    seen = set()
    for turn in zip_longest(*worst):
        for row, moved in zip(rows, turn, strict=True):
            place = moved and (MetricName.parse(row.metric).task, moved.id)
            if moved is not None and place not in seen:
                seen.add(place)
                yield row, moved


def _said(store: Store, run_id: str, task: str, sample_id: str) -> list[str]:
    rows = store.query(
        "SELECT coalesce(r.error, r.text) AS text FROM run_responses l "
        "JOIN responses r USING (key) WHERE l.run_id = ? AND l.task = ? AND l.sample_id = ? "
        "AND l.kind = 'generation' ORDER BY r.draw, r.response_index LIMIT 4",
        [run_id, task, sample_id],
    )
    return [row["text"] for row in rows]


def _asked(store: Store, run: Run, task: str, sample_id: str) -> str:
    from harness.core.protocol import tasks_of
    from harness.store.runs import load_samples

    sample = load_samples(store, tasks_of(run.fingerprint.protocol)[task].digest).get(sample_id)
    if sample is None:
        return ""
    asked = [f"{message['role']}: {message['content']}" for message in sample.prompt]
    return "\n".join([*asked, *([sample.text] if sample.text else [])])
