"""A training at the terminal: bars at work, a line for each checkpoint, a table where one fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.comparison.elo_ratings import ANCHOR_IS
from harness.core.format import number, opponent_name
from harness.core.types import VerdictOutcome
from harness.gate.verdict import MetricVerdict
from harness.report.console import verdict_table
from trainers.loop.opinion import Opinion, deciding

REMEDIES = {
    "skip_rows": "leave out the rows that taught it",
    "skip_data": "leave out the data of that segment",
    "reshuffle": "plan the rest of the data in another order",
    "lower_lr": "halve the learning rate",
    "stop": "no remedy is left: stop, and keep the best checkpoint",
}


class ConsoleReporter:
    """Writes to a rich console. Use as a context manager, so that bars end when it does.

    In a pipe or a file there are no bars: there a line says how far the work is wherever nothing
    was written for `quiet_s` seconds.
    """

    def __init__(self, console: Console | None = None, *, quiet_s: float = 20.0) -> None:
        self.console = console or Console()
        self._quiet_s = quiet_s
        self._wrote_at = time.monotonic()
        self._bars = Progress(
            TextColumn("  {task.description}", justify="left"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._training = self._bars.add_task("train", total=None, visible=False, note="")
        self._stage = self._bars.add_task("", total=None, visible=False, note="")
        self._stage_name = ""
        self._steps = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self.console.print(Text(text))
        self._wrote_at = time.monotonic()

    def _still_at_work(self, text: str) -> None:
        if not self.console.is_terminal and time.monotonic() - self._wrote_at >= self._quiet_s:
            self.say(f"  {text}")

    def train_step(self, step: int, of: int, loss: float | None) -> None:
        self._bars.update(self._stage, visible=False)
        self._steps = of
        note = f"loss {loss:.3f}" if loss is not None else ""
        self._bars.update(self._training, completed=step, total=of, visible=True, note=note)
        self._still_at_work(f"train {step} of {of}  {note}".rstrip())

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage_name:
            self._stage_name = stage
            self._bars.reset(self._stage, description=stage, total=total, visible=True, note="")
        self._bars.update(self._stage, completed=done, total=total, visible=done < total)
        if done < total:
            self._still_at_work(f"{stage} {done} of {total}")

    def judged(self, step: int, opinion: Opinion) -> None:
        """One line; where the checkpoint fails, the table and what decided it as well."""
        self._wrote_at = time.monotonic()
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, min_width=6)
        row.add_column()
        word, style = _word(opinion)
        steps = len(str(self._steps or step))
        name = f"step {step:>{steps}}"
        room = self.console.width - len(name) - max(6, len(word)) - 2
        row.add_row(name, Text(word, style=style), Text(_in_short(opinion, room)))
        self.console.print(row)
        for rated in (one.verdict.notes.get("elo") for one in opinion.decisions):
            if rated is not None:
                said = f"{'':<{len(name)}} Elo: {rated.removesuffix(ANCHOR_IS)}"
                self.console.print(Text(said, "dim"))
        decision = opinion.decisive
        if decision is None or decision.verdict.outcome is not VerdictOutcome.FAIL:
            return
        title = f"step {step} against the {opponent_name(decision.against)}"
        if decision.against == "anchor":
            title += " (checkpoint-0)"
        self.console.print()
        self.console.print(Text(title, style="bold"))
        self.console.print(verdict_table(decision.verdict))
        self.console.print(Text(f"why it got worse: ratchet explain {decision.id}", "dim"))

    def rolled_back(self, step: int, to: int, remedy: str, why: str) -> None:
        self.console.print()
        self.console.print(Text(f"◀ rolling back from step {step} to step {to}", style="bold red"))
        said = Table.grid(padding=(0, 1, 0, 2))
        said.add_row("why", Text(why))
        said.add_row("remedy", Text(REMEDIES[remedy]))
        self.console.print(said)

    def lines(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """A short list of names and values, the values aligned."""
        self.console.print()
        self.console.print(Text(title, style="bold"))
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.console.print(Text(f"  {name:<{width}}  {value}"), soft_wrap=True)


def _word(opinion: Opinion) -> tuple[str, str]:
    """The verdict in a word, and its style."""
    if opinion.why_best:
        return "▲ best", "green"
    return {
        "anchor": ("anchor", "dim"),
        "pass": ("pass", "green"),
        "fail": ("FAIL", "bold red"),
    }.get(opinion.judged.outcome, (opinion.judged.outcome, "yellow"))


def _in_short(opinion: Opinion, width: int) -> str:
    """What decided, and what it took: `intents/json_match 0.41 ↑ 0.53; 480 scored, 12 s`. As many
    metrics are named as `width` columns hold on one line, the first one in any case.
    """
    work = opinion.work
    spent = f"{work.scored} scored, {work.seconds:.0f} s"
    whole = f"{work.generated} generated, {spent}" if work.generated else spent
    if opinion.decisive is None:
        return whole
    verdict = opinion.decisive.verdict
    # A new best checkpoint rests on what it is better at, whatever else is still open.
    better = [row for row in verdict.rows if row.required and row.name in (opinion.why_best or "")]
    rows = better or list(deciding(verdict))
    lines = [f"{_moves(rows, named)}; {whole}" for named in range(len(rows), 0, -1)]
    lines.append(f"{_moves(rows, 1)}; {spent}")
    return next((line for line in lines if len(line) <= width), lines[-1])


def _moves(rows: Sequence[MetricVerdict], named: int) -> str:
    """The first `named` metrics, from the opponent's value to the checkpoint's."""
    rest = [f"{len(rows) - named} more"] if len(rows) > named else []
    return ", ".join([*map(_move, rows[:named]), *rest])


def _move(row: MetricVerdict) -> str:
    found = row.measured
    if found.anchor is None or found.candidate is None:
        return f"{row.name} {number(found.candidate)}"
    change = found.candidate - found.anchor
    arrow = "↑" if change > 0 else "↓" if change < 0 else "="
    return f"{row.name} {number(found.anchor)} {arrow} {number(found.candidate)}"
