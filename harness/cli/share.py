"""`ratchet push` and `ratchet pull`: what is measured, in one place for several machines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UnfinishedError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.store.share.index import Index
    from harness.store.store import Store

Where = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        envvar="RATCHET_SHARE",
        help="A folder that all machines see, or s3://BUCKET/PREFIX.",
        show_default=False,
    ),
]


def push(
    place: Where,
    only: Annotated[
        list[str] | None,
        typer.Option("--run", help="Only this run, and the verdicts about it; may be repeated."),
    ] = None,
) -> None:
    """Send what the place lacks: runs that ended, verdicts, lines, calibrations, trainings.

    Pushed twice, nothing is sent the second time; several machines may push at
    once. Checkpoints, votes and what production saw stay on this machine.
    """
    from harness.cli.session import in_passing, open_workspace
    from harness.store.runs import require_run
    from harness.store.share.place import open_place
    from harness.store.share.push import push as send

    there = open_place(place)
    with open_workspace(make=False) as (store, _, console):
        runs = [require_run(store, name.removeprefix("run:")).id for name in only or ()]
        pushed = send(store, there, only=runs, say=in_passing(console))
    sent = f"; {pushed.sent_bytes / 1e6:.1f} MB" if pushed.counts else ""
    _say(f"sent to {there.name}: {_counted(pushed.counts)}{sent}", console)


def pull(
    place: Where,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on taking what is pushed, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=1, help="With --watch: look every N seconds.")
    ] = 10.0,
) -> None:
    """Take what others pushed there: what is here already is left as it is.

    Each thing is checked against its digest, and taken whole or not at all.
    """
    from harness.cli.session import in_passing, open_workspace
    from harness.store.share.index import Index
    from harness.store.share.place import open_place
    from harness.store.share.pull import pull as take

    there = open_place(place)
    with open_workspace() as (store, _, console):
        index = Index(there, store)
        if not watch:
            counts = take(store, index, say=in_passing(console))
            _say(f"taken from {there.name}: {_counted(counts)}", console)
            return
        _say(f"taking what is pushed to {there.name}, every {every:g} s; Ctrl-C ends it", console)
        _follow(store, index, every, console)


def _follow(store: Store, index: Index, every: float, console: Console) -> None:
    from harness.store.share.pull import pull as take

    said, whole = "", False
    while True:
        try:
            counts = take(store, index, empty=True, only_new=whole)
            whole = True
            text = f"taken: {_counted(counts)}" if counts else ""
        except UnfinishedError as error:
            whole = False
            text = f"{error.what}; trying again"
        # A place that is away is said once, not every ten seconds.
        if text and text != said:
            _say(f"{time.strftime('%H:%M:%S')} {text}", console)
        said = text
        time.sleep(every)


def _counted(counts: Mapping[str, int]) -> str:
    if not counts:
        return "nothing new"
    return ", ".join(
        f"{number} {kind.removesuffix('s') if number == 1 else kind}"
        for kind, number in counts.items()
    )


def _say(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
