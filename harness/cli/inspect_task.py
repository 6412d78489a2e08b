"""`ratchet score MODEL --suite inspect:FILE@TASK`: a task of Inspect as a run."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.backends.base import Candidate
    from harness.core.workspace import Workspace
    from harness.store.store import Store


def score_inspect(
    suite: str,
    names: Sequence[str],
    opened: Callable[[str, Workspace, Store], Candidate],
    *,
    limit: int | None,
    seed: int,
    python: Path | None,
    arguments: str,
    unused: Mapping[str, Any],
) -> None:
    """Score each model on the task, one after the other. `unused` are options that Inspect has no
    use for, and whether they were given. Raises UserError for one that was.
    """
    from rich.console import Console

    from harness.cli.bundle import take_in_and_show
    from harness.cli.progress import bars
    from harness.cli.session import in_passing
    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.interop.inspect_task import PREFIX, InspectTask, score_by_inspect
    from harness.store.store import Store

    for option, given in unused.items():
        if given:
            raise UserError(
                "a task of Inspect has no such choice",
                field=option,
                hint='`--inspect-args "--epochs 4 -T key=value"` are those of `inspect eval`',
            )
    task = InspectTask(
        suite.removeprefix(PREFIX),
        **({} if python is None else {"python": str(python)}),
        arguments=shlex.split(arguments),
    )
    task.check()
    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=in_passing(console)) as store:
        for candidate in [opened(name, workspace, store) for name in names]:
            stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
            folder = workspace.logs / f"inspect-{stamp}"
            in_passing(console)(f"Inspect runs {task.name} on {candidate.name}; its log: {folder}")
            with bars(console) as progress:
                imported = score_by_inspect(
                    task,
                    candidate,
                    folder,
                    limit=limit,
                    seed=seed,
                    progress=partial(progress, "answers", total=None),
                )
            take_in_and_show(store, imported, console)
