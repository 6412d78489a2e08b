"""`ratchet calibrate`: scores one model twice to find what a suite's gate can see."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DeviceOption,
    DtypeOption,
    LimitOption,
    ModelName,
    SeedOption,
    SuiteOption,
)
from harness.cli.progress import bars
from harness.cli.session import in_passing

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.types import Run
    from harness.evaluation.plan import Extent
    from harness.evaluation.runner import RunReport
    from harness.gate.calibration import Calibration, MetricCalibration
    from harness.suite.suite import Suite

DROPS = (0.05, 0.06, 0.08, 0.10)


def calibrate(
    model: ModelName,
    suite: SuiteOption,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    anchor_responses: Annotated[
        int,
        typer.Option(
            "--anchor-responses", min=1, help="Give the anchor N times the suite's answers."
        ),
    ] = 1,
    trials: Annotated[
        int, typer.Option("--trials", min=100, help="How many checkpoints to simulate; 1000: ±1%.")
    ] = 1000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the calibration here as JSON.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    rounding: Annotated[
        bool,
        typer.Option(
            "--rounding",
            help="Score the second time in bfloat16 (or float32): rounding is noise too.",
        ),
    ] = False,
) -> None:
    """Score a model twice, simulate the gate on its own scores, and freeze `margin: auto`.

    Prints how often an unchanged model fails, which drops are caught how often,
    and how many samples and responses each metric needs. `ratchet gate` then
    cites it.
    """
    from rich.console import Console

    from harness.backends.openers import Hardware
    from harness.comparison.calibrations import keep_calibration
    from harness.comparison.looks import evidence_at
    from harness.core.workspace import Workspace
    from harness.evaluation.open_model import open_model
    from harness.evaluation.runner import score
    from harness.gate import calibration
    from harness.store.store import Store
    from harness.suite.load import load_suite

    loaded, console = load_suite(suite), Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=in_passing(console)) as store:
        first = Hardware.choose(device, dtype)
        second = replace(first, dtype=_other(first.dtype)) if rounding else first
        extents = _extents(loaded, anchor_responses)
        candidate = None
        scored: list[Run] = []
        for draw, (extent, hardware) in enumerate(zip(extents, (first, second), strict=True)):
            if candidate is None or rounding:
                candidate = open_model(
                    model, workspace, store, hardware=hardware, say=in_passing(console)
                )
                # Two scorings of one dtype are one loading.
                candidate = replace(candidate, open=cache(candidate.open))
            with bars(console) as progress:
                report = score(
                    candidate,
                    loaded,
                    store,
                    seed=seed,
                    limit=limit,
                    draw=draw,
                    extent=extent,
                    progress=progress,
                )
            _say_scored(draw, report, console, f" in {hardware.dtype}" * rounding)
            scored.append(report.run)
        if not rounding:
            _say_greedy(loaded, console)
        sides = [
            evidence_at(store, run, loaded, loaded.policy, extent)
            for run, extent in zip(scored, extents, strict=True)
        ]
        found = calibration.calibrate(
            sides[0], sides[1], loaded.policy, trials=trials, drops=DROPS, seed=seed
        )
        kept = keep_calibration(store, found, loaded.policy, scored)
    show_calibration(found, console)
    console.print(f"calibration {kept} of {loaded.name}: `ratchet gate` cites it from now on")
    if json_file is not None:
        import json

        from harness.core.files import write_atomic

        write_atomic(json_file, json.dumps(found.to_dict(), ensure_ascii=False, indent=1) + "\n")


def _extents(suite: Suite, anchor_responses: int) -> tuple[Extent, Extent]:
    """The evidence at the gate's last look: the anchor's, then the candidate's."""
    from harness.comparison.looks import schedule

    last = schedule(suite.policy.looks or (1.0,))[-1]
    return replace(last, responses=last.responses * anchor_responses), last


def _other(dtype: str) -> str:
    """What the same weights are rounded to, or were before they were."""
    return "bfloat16" if dtype == "float32" else "float32"


def _say_scored(draw: int, report: RunReport, console: Console, how: str = "") -> None:
    from harness.report.console import asked

    done = asked(report.generated, report.read)
    which = "second scoring, fresh draws" if draw else "first scoring"
    console.print(f"{which}{how}: {done}, {report.reused} reused", style="dim")


def _say_greedy(suite: Suite, console: Console) -> None:
    greedy = [task.name for task in suite.tasks if not task.sampled]
    if greedy:
        console.print(
            f"no randomness in {', '.join(greedy)}: an unchanged model gives the same answers "
            "there, so it can't fail by chance",
            style="dim",
            highlight=False,
        )


def show_calibration(found: Calibration, console: Console) -> None:
    """What is caught, what an unchanged model meets, and what would help; a row each metric."""
    from rich.text import Text

    from harness.report.table import FittedTable

    losses = (f"−{drop:.0%}" for drop in DROPS)
    caught = FittedTable(("chance of FAIL at", *losses, "80% at", "n × K"))
    needs = FittedTable(("unchanged model", "passes", "auto margin", "samples", "responses"))
    for metric in found.metrics:
        drops = [_share(metric.power[drop]) for drop in DROPS]
        size = f"{metric.n} × {metric.responses}"
        caught.add(metric.metric, *drops, _visible(metric), size)
        needs.add(metric.metric, *_needs(metric))
    console.print(caught)
    console.print()
    console.print(needs)
    console.print()
    for name, why in found.skipped.items():
        console.print(Text(f"not calibrated: {name}: {why}", "yellow"))
    console.print(
        Text(
            f"An unchanged model FAILs in {_share(found.false_rollback)} of checkpoints at alpha "
            f"{found.alpha:g}, and in {_share(found.false_rollback_run)} of trainings of "
            f"{found.run_length}, alpha split over them "
            f"({found.trials} checkpoints and {found.runs} trainings simulated)."
        )
    )
    console.print(
        Text(
            f"The bare rule would fail {_share(found.bare_rule)} of unchanged checkpoints. "
            + (f"As a whole {_share(found.passes)} PASS." if found.passes is not None else "")
        )
    )
    for metric in found.metrics:
        _explain(metric, console)


def _visible(metric: MetricCalibration) -> str:
    return f"−{metric.visible:.1%}" if metric.visible < 1 else "never"


def _needs(metric: MetricCalibration) -> list[str]:
    return [
        _share(metric.pass_rate),
        "–" if metric.auto_margin is None else f"{metric.auto_margin:.1%}",
        "–" if metric.samples_needed is None else f"{metric.samples_needed:,}",
        "–" if metric.responses_needed is None else f"{metric.responses_needed:,}",
    ]


def _explain(metric: MetricCalibration, console: Console) -> None:
    """Say what would help, where an unchanged model passes a metric in less than 80% of cases."""
    from rich.text import Text

    if metric.pass_rate >= 0.8:
        return
    wider = "" if metric.auto_margin is None else f"; `margin: auto` is {metric.auto_margin:.1%}"
    ways = []
    if metric.samples_needed is not None:
        ways.append(f"{metric.samples_needed:,} samples")
    if metric.responses_needed is not None:
        ways.append(f"{metric.responses_needed:,} responses a sample")
    needs = f": it would take {' or '.join(ways)}" if ways else ""
    console.print(
        Text(
            f"{metric.metric}: an unchanged model passes {metric.margin:.0%} only in "
            f"{_share(metric.pass_rate)}{needs}{wider}.",
            "yellow",
        )
    )


def _share(value: float) -> str:
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
