"""`ratchet watch canary` and `ramp`: a candidate beside the promoted version, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import WatchPolicyOption
from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from harness.store.store import Store
    from harness.watch.monitor.policy import WatchPolicy
    from harness.watch.rollout.traffic_split import Split

LineArgument = Annotated[str, typer.Argument(help="The line's name.", show_default=False)]
ActOption = Annotated[
    bool, typer.Option("--act", help="Do it. Default: only say what would be done.")
]


def canary(
    line: LineArgument,
    candidate: Annotated[
        str | None,
        typer.Argument(
            help="A digest, a model's folder or line:NAME. Default: judge the running one.",
            show_default=False,
        ),
    ] = None,
    ramp: Annotated[
        str, typer.Option("--ramp", help="Shares of traffic, step by step; 1 means promotion.")
    ] = "0.01,0.1,0.5,1",
    verdict: Annotated[
        str | None, typer.Option("--verdict", help="The gate's verdict. Default: its last one.")
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Begin without a pass, for this reason; it is recorded."),
    ] = None,
    policy: WatchPolicyOption = None,
    act: ActOption = False,
) -> None:
    """Begin a canary on a line, or judge the one that runs.

    Changes nothing without --act. Exits 0 pass, 1 fail, 2 inconclusive, 3 bad
    input.
    """
    from harness.cli.session import open_workspace
    from harness.cli.watch_act import say
    from harness.watch.monitor.policy import load_policy
    from harness.watch.rollout.ramp import begin

    with open_workspace() as (store, registry, console):
        if candidate is None:
            raise typer.Exit(_standing(store, console, line, load_policy(policy)))
        digest, other = _resolve(registry, candidate)
        split, action = begin(
            store,
            registry,
            line,
            digest,
            act=act,
            other=other,
            ramp=_ramp(ramp),
            verdict_id=verdict,
            override=override,
        )
        say(action, console)
        if act:
            folder = store.workspace.lines / line
            console.print(
                f"canary {split.canary}; servers follow {folder / 'split.json'}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def ramp(
    line: LineArgument,
    policy: WatchPolicyOption = None,
    act: ActOption = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="End it: all traffic goes to the promoted version.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook", help="A URL that gets one POST for each step.", show_default=False
        ),
    ] = None,
) -> None:
    """Judge a canary's step: next share after a pass, end after a fail, promote after the last.

    Changes nothing without --act. Exits 0 pass, 1 fail, 2 inconclusive, 3 bad
    input.
    """
    from harness.cli.session import open_workspace
    from harness.cli.watch_act import check_webhook, say
    from harness.cli.watch_check import show
    from harness.watch.monitor.policy import load_policy
    from harness.watch.rollout import ramp as ramps

    check_webhook(webhook)
    rules = load_policy(policy)
    with open_workspace() as (store, registry, console):
        if abort:
            say(ramps.abort(store, line, act=act).action, console)
            return
        stepped = ramps.advance(store, registry, line, rules, act=act, webhook=webhook)
        if stepped.verdict is not None:
            show(stepped.verdict, console, everything=True)
        say(stepped.action, console)
        raise typer.Exit(stepped.verdict.exit_code if stepped.verdict is not None else 2)


def _standing(store: Store, console: Console, line: str, policy: WatchPolicy) -> int:
    from datetime import UTC, datetime

    from harness.cli.watch_check import show
    from harness.watch.rollout.canary import look
    from harness.watch.rollout.ramp import current

    split = current(store, line)
    if split is None or split.ended:
        over = f"the last one is over: {split.ended}" if split else "none ever began"
        raise UserError(
            f"no canary runs on {line}; {over}", hint=f"ratchet watch canary {line} CANDIDATE"
        )
    _say_split(console, split)
    verdict = look(store, split, policy, now=datetime.now(UTC))
    show(verdict, console, everything=True)
    detail = verdict.detail
    console.print(
        f"{detail['candidate']:,} conversations in the candidate's arm, {detail['blessed']:,} in "
        f"the promoted one's",
        style="dim",
        highlight=False,
    )
    if detail["problem"]:
        console.print(str(detail["problem"]), style="yellow", markup=False)
    return verdict.exit_code


def _say_split(console: Console, split: Split) -> None:
    steps = ", ".join(
        f"[{share:.2%}]" if at == split.step else f"{share:.2%}"
        for at, share in enumerate(split.ramp)
    )
    console.print(
        f"canary {split.canary}: {split.candidate[:12]} beside {split.promoted[:12]}; {steps}",
        markup=False,
        highlight=False,
    )


def _resolve(registry: Registry, named: str) -> tuple[str, str | None]:
    """The candidate's digest, and the line that it is the promoted one of, where one was named."""
    if named.startswith("line:"):
        name = named.removeprefix("line:")
        promoted = registry.promoted(name)
        if promoted is None:
            raise UserError(
                f"nothing was ever promoted on {name}", hint="`ratchet promote` begins a line"
            )
        return promoted.digest, name
    folder = Path(named)
    return (registry.add(folder) if folder.is_dir() else registry.path(named).name), None


def _ramp(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(
            f"{text!r} is not a ramp", field="--ramp", hint="shares like 0.01,0.1,0.5,1"
        ) from None
