"""`ratchet watch harvest` and `review`: corrections from users, as reviewed new data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.data.duplicates import Passage
    from harness.store.store import Store
    from harness.watch.feedback.reviews import Goal, HarvestedItem


def harvest(
    line: Annotated[
        str | None, typer.Argument(help="The line whose answers to look through.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Write approved rows for suite, rating, sft or preference."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The JSONL file to write. Default: GOAL.jsonl"),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only what was received since then, UTC.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Propose at most N. Default: 200.")
    ] = None,
    suite_share: Annotated[
        float | None,
        typer.Option(
            "--suite-share", help="Share of corrected answers for the suite. Default: 0.3."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A suite or data file; leave out what nearly repeats it."),
    ] = None,
) -> None:
    """Propose badly rated and corrected answers for review; with --to, write what was approved."""
    from harness.cli.session import open_workspace
    from harness.watch.feedback.harvest import LIMIT, SUITE_SHARE
    from harness.watch.feedback.harvest import harvest as propose
    from harness.watch.feedback.reviews import goal_of

    if (line is None) == (to is None):
        raise UserError(
            "harvest needs either a line, to propose from, or --to, to write",
            hint="ratchet watch harvest LINE, then review, then: ratchet watch harvest --to suite",
        )
    proposing = {"--since": since, "--limit": limit, "--suite-share": suite_share}
    _refuse({"--out": out} if to is None else proposing, needed="--to" if to is None else "a line")
    goal = None if to is None else goal_of(to)
    known = _known(against or [])
    with open_workspace() as (store, _, console):
        if goal is not None:
            _write(store, console, goal, out, known)
            return
        assert line is not None
        found = propose(
            store,
            line,
            since=since,
            limit=limit or LIMIT,
            suite_share=SUITE_SHARE if suite_share is None else suite_share,
            against=known,
        )
        sides = [item.kind for item in found.proposed]
        console.print(
            f"{len(sides)} proposed: {sides.count('sample')} for the suite's side, "
            f"{sides.count('training')} for training",
            highlight=False,
        )
        if found.alike:
            console.print(f"{found.alike} left out: nearly the same as something known")
        if found.left:
            console.print(f"{found.left} more wait for the next call, or a larger --limit")
        if sides:
            console.print("next: ratchet watch review", style="dim")


def review(
    items: Annotated[
        list[str] | None, typer.Argument(help="Items to decide on. Default: list those that wait.")
    ] = None,
    yes: Annotated[
        bool | None,
        typer.Option("--yes/--no", help="Accept or reject the items.", show_default=False),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who decides. Default: you.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Correct the prompt (of one item).")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Give a better answer (for one item).")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the record.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List at most N.")] = 20,
) -> None:
    """List harvested answers that wait for a person, or decide on some of them."""
    from harness.cli.session import open_workspace
    from harness.registry.events import who
    from harness.watch.feedback.reviews import pending
    from harness.watch.feedback.reviews import review as decide

    edits = {n: t for n, t in (("prompt", prompt), ("target", target)) if t is not None}
    if bool(items) != (yes is not None):
        raise UserError(
            "a decision needs both: the items, and --yes or --no",
            field="--yes",
            hint="ratchet watch review ITEM --yes; without either, it lists what waits",
        )
    if edits and (len(items or []) != 1 or not yes):
        raise UserError(
            "an edit goes with one item and --yes",
            field="--target",
            hint='ratchet watch review ITEM --yes --target "a better answer"',
        )
    with open_workspace() as (store, _, console):
        if not items:
            waiting = pending(store, limit)
            for item in waiting:
                _show(console, item)
            _say_next(console, waiting)
            return
        for name in items:
            done = decide(
                store, name, yes=bool(yes), reviewer=by or who(), edits=edits, reason=reason
            )
            console.print(f"{done}: {'yes' if yes else 'no'}", highlight=False)


def _refuse(options: Mapping[str, object], *, needed: str) -> None:
    """Raise UserError for an option that was given and would be ignored."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} goes with {needed}", field=name, hint=f"leave {name} out")


def _known(paths: list[Path]) -> list[Passage]:
    from harness.watch.feedback.harvest import passages

    return [passage for path in paths for passage in passages(path)]


def _write(
    store: Store, console: Console, goal: Goal, out: Path | None, known: list[Passage]
) -> None:
    from harness.watch.feedback.reviews import write

    written = write(store, goal, out or Path(f"{goal}.jsonl"), against=known)
    console.print(
        f"{written.rows} rows in {written.path}", markup=False, highlight=False, soft_wrap=True
    )
    for name, why in written.left_out.items():
        console.print(f"left out {name}: {why}", style="dim", markup=False, highlight=False)


def _show(console: Console, item: HarvestedItem) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from harness.core.escape import visible

    parts = []
    for name in ("prompt", "response", "target", "comment"):
        if item.item.get(name):
            parts.append((f"{name}  ", "bold"))
            parts.append((visible(str(item.item[name]), 1_500) + "\n", ""))
    side = "suite" if item.kind == "sample" else "training"
    title = f"{item.item_id} · {item.reason.replace('_', ' ')} · for the {side}"
    console.print(Panel(Text.assemble(*parts), title=Text(title), title_align="left"))


def _say_next(console: Console, waiting: list[HarvestedItem]) -> None:
    if not waiting:
        console.print("nothing waits for review")
        return
    console.print(
        f"ratchet watch review {waiting[0].item_id[:8]} --yes   (or --no, --target TEXT)",
        style="dim",
        highlight=False,
    )
