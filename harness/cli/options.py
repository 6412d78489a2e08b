"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[
    str,
    typer.Argument(help="A folder (model or adapter), a hub id, an embedded name, or line:NAME."),
]
ModelNames = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Folders (models or adapters), hub ids, embedded names, line:NAME, RUN/checkpoint-*.",
    ),
]
SuiteOption = Annotated[
    Path, typer.Option("--suite", "-s", help="The suite, a YAML file.", show_default=False)
]
InspectPythonOption = Annotated[
    Path | None,
    typer.Option(
        "--inspect-python",
        envvar="RATCHET_INSPECT_PYTHON",
        help="The Python that has Inspect. Default: this one.",
        show_default=False,
    ),
]
InspectArgsOption = Annotated[
    str, typer.Option("--inspect-args", help='More for `inspect eval`: "--epochs 4".')
]
WatchPolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        "-p",
        help="The policy, a YAML file. Default: the built-in one.",
        show_default=False,
    ),
]
ALL_SHOWS = "--all shows them"
AllOption = Annotated[bool, typer.Option("--all", help="Show advisory metrics too, a row each.")]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Score at most N samples a task, drawn by --seed."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The seed of every random choice.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, xpu, mps or auto.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 … or auto.")]
