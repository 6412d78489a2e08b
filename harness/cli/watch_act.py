"""Acts on a watch verdict (roll back, notify), and prints what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.webhook import split

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from harness.store.store import Store
    from harness.watch.monitor.verdict import WatchVerdict
    from harness.watch.rollout.actions import Action


def respond(
    verdict: WatchVerdict,
    registry: Registry,
    store: Store,
    console: Console,
    *,
    act: bool,
    webhook: str | None,
    as_json: bool,
) -> None:
    """Act on a verdict, or say what --act would do."""
    from harness.watch.rollout.actions import act as take_back

    action = take_back(verdict, registry, store, act=act, webhook=webhook)
    if as_json:
        import json

        row = json.dumps(action.row(), ensure_ascii=False, default=str)
        console.file.write(row + "\n")
        console.file.flush()
    else:
        say(action, console)


def check_webhook(url: str | None) -> None:
    """Raise UserError where a webhook is not a web address; called before anything else is done."""
    if url is not None:
        split(url)


def say(action: Action, console: Console) -> None:
    """Print in one line what was done, or what --act would do."""
    to = (action.to_digest or "")[:12]
    if action.action == "held":
        said, style = f"nothing was done: {action.reason}", "yellow"
    elif action.action == "ramped":
        said = action.reason if action.acted else f"dry run, --act does it: {action.reason}"
        style = "green" if action.acted else "yellow"
    elif action.acted:
        said, style = f"rolled back: {action.line} serves {to} again", "bold"
    else:
        said, style = f"dry run: with --act {action.line} would go back to {to}", "yellow"
    console.print(said, style=style, markup=False, highlight=False, soft_wrap=True)
