"""`ratchet watch`: observations come in, are held against the promise, and are acted on."""

from __future__ import annotations

import typer

watch = typer.Typer(
    help="A promoted model in production: what users see, and whether it keeps its promise.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@watch.callback()
def _group() -> None:
    """Each verb is a function of its own; here is only the group."""
