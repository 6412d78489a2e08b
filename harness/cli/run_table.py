"""The table of one run: each metric with its value, interval and count."""

from __future__ import annotations

from typing import TYPE_CHECKING

_NOTES = 3
"""How many kinds of notes on a metric's answers are shown, the commonest first."""

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.types import Run
    from harness.evaluation.runner import RunReport
    from harness.store.store import Store


def show_report(report: RunReport, store: Store, console: Console) -> None:
    """Print what a scoring did, and the run's table."""
    from rich.text import Text

    from harness.report.console import asked

    if report.fresh == 0:
        done = f"Nothing was generated: all {report.reused} answers were known already"
    else:
        done = f"{asked(report.generated, report.read)}, {report.reused} reused"
    scored = f"{report.scored} scores added" if report.scored else "every score was known too"
    console.print(Text(f"{done}; {scored} ({report.seconds:.1f} s)."))
    if report.failed:
        console.print(Text(f"{report.failed} answers are errors; they are kept as such.", "yellow"))
    for complaint in report.complaints:
        console.print(Text(complaint, "yellow"))
    show_run(report.run, store, console)


def show_run(run: Run, store: Store, console: Console) -> None:
    """One run's table: each metric with its interval, and n scored of n in total."""
    from rich.text import Text

    from harness.comparison.evidence import summarize
    from harness.report.failures import outcome_sentences
    from harness.report.judge_summary import judge_sentences
    from harness.report.table import FittedTable

    lines = summarize(store, run)
    table = FittedTable(("metric", "value", "95% interval", "scored", "unit"), frozenset({"unit"}))
    for line in lines:
        found = line.estimate
        table.add(
            ("↑ " if line.direction == "higher" else "↓ ") + line.metric,
            "–" if found.value is None else f"{found.value:.4g}",
            "–" if found.low is None else f"{found.low:.3g} – {found.high:.3g}",
            f"{line.counts.scored} of {line.counts.total}",
            Text(line.unit, "dim"),
        )
    console.print(table)
    for line in lines:
        counts = line.counts
        for count, said_of_them in (
            (counts.errors, f"failed: {counts.reason}"),
            (counts.unscored, f"unscored: {counts.reason}"),
            *((count, f"noted: {note}") for count, note in counts.notes[:_NOTES]),
        ):
            if count:
                noun = "answer" if count == 1 else "answers"
                said = f"{line.metric}: {count} {noun} {said_of_them}"
                console.print(Text(said, "yellow"))
    for sentence in judge_sentences(store, run):
        console.print(Text(sentence))
    for sentence in outcome_sentences(store, run):
        console.print(Text(f"{sentence} (each: ratchet problems {run.id})"))
    digest = run.model_digest[:12]
    console.print(Text(f"run:{run.id}  {run.model}  {run.suite}  model {digest}", "dim"))
