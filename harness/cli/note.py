"""`ratchet note`: tags and a note beside a run."""

from __future__ import annotations

from typing import Annotated

import typer


def note(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    text: Annotated[
        str | None, typer.Argument(help="The note; an empty one takes it away.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag to add.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="A tag to remove.")] = None,
) -> None:
    """Write a note beside a run, or tag it; without either, show what stands there.

    The dashboard's page of runs shows, finds and filters by them. Nothing is decided by a note.
    """
    import getpass

    from harness.core.workspace import Workspace
    from harness.store.notes import note_of, write_note
    from harness.store.runs import require_run
    from harness.store.store import Store

    with Store(Workspace.at()) as store:
        found = require_run(store, run.removeprefix("run:"))
        if text is None and not tag and not untag:
            now = note_of(store, found.id)
        else:
            now = write_note(
                store,
                found.id,
                actor=getpass.getuser(),
                text=text,
                add=tag or (),
                remove=untag or (),
            )
    tags = " ".join(f"#{name}" for name in now.tags)
    typer.echo(f"{found.id}  {' '.join(filter(None, (tags, now.text))) or 'no note'}")
