"""`ratchet follow DIR`: judge the checkpoints of a job that somebody else runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.core.quiet import quiet


def follow(
    folder: Annotated[
        Path, typer.Argument(help="Where the job's checkpoints appear.", show_default=False)
    ],
    suite: Annotated[
        Path, typer.Option("--suite", "-s", help="The suite, a YAML file.", show_default=False)
    ],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="Whose folder it is: hf, axolotl, verl, openrlhf, prime-rl, nemo-rl, or a pattern "
            "such as 'run/step_{step}/model'. auto: look.",
        ),
    ] = "auto",
    planned: Annotated[
        int | None,
        typer.Option(
            "--planned",
            min=1,
            help="How many checkpoints there will be: alpha is split over them. Default: what "
            "transformers wrote down.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="The anchor: a model or a run. Default: what the line has, else the first found.",
        ),
    ] = None,
    line: Annotated[
        str | None,
        typer.Option("--line", help="Offer the best one to this line at the end."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model under adapters.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="A folder with the tokenizer that checkpoints lack."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda:1, …")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 …")] = "auto",
    score_on: Annotated[
        str | None,
        typer.Option("--score-on", help="A running vLLM, openai:…: it answers for adapters."),
    ] = None,
    on_fail: Annotated[
        str | None,
        typer.Option(
            "--on-fail",
            metavar="CMD",
            help="Run this in a shell at each FAIL, with RATCHET_STEP, RATCHET_CHECKPOINT and "
            "RATCHET_BEST. Without it and --stop-file: exit 1.",
        ),
    ] = None,
    stop_file: Annotated[
        Path | None, typer.Option("--stop-file", help="Write this file at the first FAIL.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Where verdicts and the link `best` go. Default: DIR/ratchet."),
    ] = None,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks.")
    ] = 10.0,
    rest: Annotated[
        float,
        typer.Option(
            "--rest",
            min=0,
            help="Seconds for which files must have rested, where the job doesn't say when a "
            "checkpoint is finished (openrlhf, patterns).",
        ),
    ] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Judge what is there, and end.")] = False,
) -> None:
    """Score each checkpoint of a running job once, decide, and act on a FAIL.

    The job's own files are only read. Exits 0 where none failed, 1 where one did. Ended at any
    moment, the same command goes on.
    """
    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.suite.load import load_suite
    from trainers.wrap.layouts import require_layout

    require_layout(layout)
    if not folder.is_dir():
        raise UserError(
            "there is no such folder",
            file=folder,
            hint="name the job's output folder; make it first where the job has not begun",
        )
    if tokenizer is not None and not tokenizer.is_dir():
        raise UserError("there is no such folder", file=tokenizer, field="--tokenizer")
    loaded = load_suite(suite)
    quiet()
    from harness.backends.openers import Hardware
    from harness.store.store import Store
    from trainers.wrap import follow as following
    from trainers.wrap.followed import Follow
    from trainers.wrap.gated import LineReporter

    out = to or folder / "ratchet"
    asked = Follow(
        folder=folder,
        suite=loaded,
        out=out,
        layout=layout,
        planned=planned,
        against=against,
        line=line,
        base=base,
        tokenizer=tokenizer,
        score_on=score_on,
        hardware=Hardware.choose(device, dtype),
        on_fail=on_fail,
        stop_file=stop_file,
        rest_s=rest,
    )
    workspace = Workspace.at().ensure()
    reporter = LineReporter()
    reporter.say(f"Following {folder}; verdicts and the link best go to {out}")
    with Store(workspace) as store:
        follower = following.Follower(asked, workspace, store, reporter)
        code = following.follow(follower, every_s=every, once=once)
    raise typer.Exit(code)
