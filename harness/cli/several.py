"""Many models in one call: `RUN/checkpoint-*` in the order of their steps, one table of all."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.progress import bars
from harness.core.errors import UserError
from harness.core.format import number

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.evidence import MetricSummary
    from harness.core.types import Run
    from harness.evaluation.plan import Scoring
    from harness.evaluation.runner import RunReport
    from harness.store.store import Store

_STEP = re.compile(r"(?<![0-9.])([0-9]+)/?$")
_PATTERN = re.compile(r"[*?\[]")
LEVELS = "▁▂▃▄▅▆▇█"
LONGEST_LINE = 32
"""A line over the steps has at most so many marks; of more checkpoints some are left out."""


def named(models: Sequence[str]) -> list[str]:
    """The models that were named, patterns replaced by the folders that match, each once; in the
    order of their steps where all have one and lie in one folder. Raises UserError for a pattern
    that no folder matches.
    """
    found: list[str] = []
    for name in models:
        if Path(name).exists() or not _PATTERN.search(name):
            found.append(name)
            continue
        matches = sorted(glob.glob(name))  # noqa: PTH207 -- pathlib takes no absolute pattern
        folders = [place for place in matches if Path(place).is_dir()]
        if not folders:
            raise UserError(
                f"no folder matches {name!r}",
                hint="name folders of models or adapters, such as RUN/checkpoint-*",
            )
        found += folders
    found = list(dict.fromkeys(found))
    steps = {name: step for name in found if (step := step_of(name)) is not None}
    if len(steps) == len(found) and len({Path(name).parent for name in found}) == 1:
        found.sort(key=lambda name: steps[name])
    return found


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder is named for (`checkpoint-40`, `step-000040`), if any."""
    step = _STEP.search(name)
    return int(step[1]) if step is not None and Path(name).is_dir() else None


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each name by its last part, where that tells them apart."""
    last = {name: Path(name).name if Path(name).is_dir() else name for name in names}
    return last if len(set(last.values())) == len(last) else {name: name for name in names}


def line_of(values: Sequence[float | None]) -> str:
    """Values as a line of marks from the lowest to the highest; a blank where there is none."""
    if len(values) > LONGEST_LINE:
        last = len(values) - 1
        values = [values[round(i * last / (LONGEST_LINE - 1))] for i in range(LONGEST_LINE)]
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    room = (high - low) or 1.0
    top = len(LEVELS) - 1
    flat = LEVELS[top // 2]
    return "".join(
        " " if v is None else flat if low == high else LEVELS[round((v - low) / room * top)]
        for v in values
    )


def _show_done(place: int, of: int, name: str, report: RunReport, console: Console) -> None:
    """One line for a checkpoint that is scored."""
    from rich.text import Text

    from harness.report.console import asked

    done = asked(report.generated, report.read) if report.fresh else "known already"
    failed = f", {report.failed} errors" if report.failed else ""
    said = f"{place} of {of}  {name}  {done}{failed}, {report.seconds:.0f} s  run:{report.run.id}"
    console.print(Text(said), soft_wrap=True)


def score_each(scorings: Sequence[Scoring], store: Store, console: Console) -> list[RunReport]:
    """Score one after the other, with a line for each where there are several. What was scored
    before is not scored again, so an interrupted call goes on where it was.
    """
    from harness.evaluation.runner import score

    short = short_names([scoring.candidate.name for scoring in scorings])
    reports = []
    for place, each in enumerate(scorings, start=1):
        with bars(console) as progress:
            report = score(
                each.candidate,
                each.suite,
                store,
                seed=each.seed,
                limit=each.limit,
                draw=each.draw,
                extent=each.extent,
                progress=progress,
            )
        reports.append(report)
        if len(scorings) > 1:
            _show_done(place, len(scorings), short[each.candidate.name], report, console)
    return reports


def show_over_steps(
    names: Sequence[str], runs: Sequence[Run], store: Store, console: Console
) -> None:
    """Each metric over the checkpoints in order: a line, the first, the best and the last."""
    from rich.text import Text

    from harness.comparison.evidence import summarize
    from harness.report.table import FittedTable

    summaries = [summarize(store, run) for run in runs]
    steps = [step_of(name) for name in names]
    places = [*short_names(names).values()] if None in steps else [f"step {step}" for step in steps]
    titles = ("metric", "over the steps", "first", "best", "at", "last")
    table = FittedTable(titles, frozenset({"over the steps", "at"}))
    for metric, values in _by_metric(summaries).items():
        direction = _direction(summaries, metric)
        best = _best(values, direction)
        mark = "↑ " if direction == "higher" else "↓ "
        table.add(
            mark + metric,
            line_of(values),
            number(values[0]),
            "–" if best is None else number(values[best]),
            "" if best is None else places[best],
            number(values[-1]),
        )
    console.print(table)
    console.print(
        Text(
            "The best of many owes part of its lead to luck: `ratchet pick` chooses by one half of "
            "the samples and decides by the other.",
            "dim",
        )
    )


def _by_metric(
    summaries: Sequence[Sequence[MetricSummary]],
) -> dict[str, list[float | None]]:
    known = [{line.metric: line.estimate.value for line in summary} for summary in summaries]
    metrics = dict.fromkeys(metric for values in known for metric in values)
    return {metric: [values.get(metric) for values in known] for metric in metrics}


def _direction(summaries: Sequence[Sequence[MetricSummary]], metric: str) -> str:
    return next(line.direction for all_ in summaries for line in all_ if line.metric == metric)


def _best(values: Sequence[float | None], direction: str) -> int | None:
    """The place of the best value; of equal ones the first."""
    sign = 1 if direction == "higher" else -1
    known = [(sign * value, -i) for i, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None
