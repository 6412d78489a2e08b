"""Progress bars of a run at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class bars:  # noqa: N801 -- reads as a context manager: `with bars(console) as progress`
    """A progress bar for the runner's stages; gone when it is done.

    Entered, it gives the callback (stage, done, total) that the runner calls.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            Elapsed(),
            console=console,
            transient=True,
            # In a pipe or a file it would leave an empty line behind.
            disable=not console.is_interactive,
        )
        self._task = self._bars.add_task("", total=None, visible=False)
        self._stage = ""

    def __enter__(self) -> Any:
        self._bars.start()
        return self._on_progress

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _on_progress(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._stage = stage
            self._bars.reset(self._task, description=stage, total=total, visible=True)
        self._bars.update(self._task, completed=done, total=total)
