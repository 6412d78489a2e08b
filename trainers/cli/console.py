"""A training as its user watches it: bars while it works, a table and a sentence when it judges."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from harness.comparison.verdict_log import Decision
from harness.core.format import opponent_name
from harness.evaluation.runner import RunReport
from harness.gate.explain import explain
from harness.report.console import asked, verdict_table

REMEDIES = {
    "skip_data": "leave out the data of that segment",
    "reshuffle": "plan the rest of the data in another order",
    "lower_lr": "halve the learning rate",
    "stop": "no remedy is left: stop, and keep the best checkpoint",
}


class ConsoleReporter:
    """Writes to a rich console. Use as a context manager, so that bars end when it does."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
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
        self._losses: list[float] = []

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

    def train_step(self, step: int, of: int, loss: float | None) -> None:
        self._bars.update(self._stage, visible=False)
        if loss is not None:
            self._losses.append(loss)
        note = f"loss {loss:.3f}" if loss is not None else ""
        self._bars.update(self._training, completed=step, total=of, visible=True, note=note)

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage_name:
            self._stage_name = stage
            self._bars.reset(self._stage, description=stage, total=total, visible=True, note="")
        self._bars.update(self._stage, completed=done, total=total, visible=done < total)

    def scored(self, step: int, report: RunReport) -> None:
        if not (report.fresh or report.scored):
            return
        loss = ""
        if self._losses:
            loss = f"mean loss {sum(self._losses) / len(self._losses):.3f}; "
            self._losses = []
        line = (
            f"step {step}: {loss}{asked(report.generated, report.read)}, {report.reused} reused, "
            f"{report.scored} scores, {report.seconds:.0f} s (run {report.run.id})"
        )
        self.console.print(Text(line, style="dim"))

    def verdict(self, step: int, decision: Decision) -> None:
        title = f"step {step} against the {opponent_name(decision.against)}"
        if decision.against == "anchor":
            title += " (checkpoint-0)"
        self.console.print()
        self.console.print(Text(title, style="bold"))
        self.console.print(verdict_table(decision.verdict))
        self.console.print(Padding(Text(explain(decision.verdict)), (0, 0, 0, 1)))

    def best_checkpoint(self, step: int, sentence: str) -> None:
        self.console.print(
            Text(f"▲ step {step} is the new best checkpoint: {sentence}", style="green")
        )

    def rolled_back(self, step: int, to: int, remedy: str, why: str) -> None:
        self.console.print()
        self.console.print(Text(f"◀ rolling back from step {step} to step {to}", style="bold red"))
        self.console.print(Text(f"  why:    {why}"))
        self.console.print(Text(f"  remedy: {REMEDIES[remedy]}"))

    def lines(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """A short list of names and values, the values aligned."""
        self.console.print()
        self.console.print(Text(title, style="bold"))
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.console.print(Text(f"  {name:<{width}}  {value}"), soft_wrap=True)
