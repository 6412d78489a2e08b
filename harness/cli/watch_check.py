"""`ratchet watch check` and `status`: whether a served line is still as good as promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import WatchPolicyOption
from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from harness.watch.monitor.verdict import SignalVerdict, WatchVerdict

LineArgument = Annotated[
    str | None, typer.Argument(help="A line. Default: the only one.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a verdict.")]


def check(
    line: LineArgument = None,
    policy: WatchPolicyOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again, until it fails or Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=1, help="Seconds between the looks of --follow.")
    ] = 60.0,
    act: Annotated[
        bool, typer.Option("--act", help="Take back what failed. Default: only say what would be.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option("--webhook", help="Told once of every FAIL.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold what a line serves to its policy. Exit: 0 pass, 1 fail, 2 inconclusive, 3 bad input.

    Look as often as you like: the false alarms that are promised are counted per day, not per look.
    With --follow --act it goes on after a FAIL, with the version that the line went back to.
    """
    import time
    from datetime import UTC, datetime

    from harness.cli.session import open_workspace
    from harness.cli.watch_act import check_webhook, respond
    from harness.watch.monitor.look import check as look
    from harness.watch.monitor.policy import load_policy
    from harness.watch.rollout.circuit_breaker import check_breaker

    check_webhook(webhook)
    rules = load_policy(policy)
    with open_workspace() as (store, registry, console):
        name = _line(line, registry)
        shown = ""
        while True:
            now = datetime.now(UTC)
            tripped = check_breaker(store, registry, name, rules.breaker or None, now=now)
            verdict = tripped or look(store, registry, name, rules, now=now)
            if not follow or verdict.watch_id != shown:
                show(verdict, console, as_json=as_json)
                if verdict.outcome == "fail":
                    respond(
                        verdict, registry, store, console, act=act, webhook=webhook, as_json=as_json
                    )
                shown = verdict.watch_id
            if not follow or (verdict.outcome == "fail" and not act):
                raise typer.Exit(verdict.exit_code)
            time.sleep(every)


def status(line: LineArgument = None, as_json: JsonOption = False) -> None:
    """The last verdict on what each line serves, without a new look."""
    from harness.cli.session import open_workspace
    from harness.watch.monitor.look import latest

    with open_workspace() as (store, registry, console):
        names = [_line(line, registry)] if line else registry.lines()
        if not names:
            raise UserError("nothing was ever promoted", hint="`ratchet promote` begins a line")
        for name in names:
            verdict, promoted = latest(store, name), registry.promoted(name)
            if verdict is None and promoted is None:
                raise UserError(
                    f"nothing was ever promoted on {name}", hint="`ratchet promote` begins a line"
                )
            if verdict is None:
                _say_unseen(name, console, as_json=as_json)
                continue
            show(verdict, console, as_json=as_json)
            if promoted is not None and promoted.digest != verdict.model_digest and not as_json:
                console.print(f"{name} serves {promoted.digest[:12]} by now: look again")


def policy(
    file: Annotated[
        Path | None, typer.Argument(help="A YAML file. Default: the defaults.", show_default=False)
    ] = None,
) -> None:
    """What a policy asks of each signal, defaults written out. Exit 3 where it can't be read."""
    from rich.console import Console
    from rich.table import Table

    from harness.watch.monitor.policy import load_policy
    from harness.watch.monitor.signals import BY_NAME

    rules = load_policy(file)
    table = Table("signal", "tier", "better", "margin", "floor", "role", "share", "reference")
    for name in rules.watched():
        signal = BY_NAME[name]
        table.add_row(
            name,
            signal.tier,
            signal.direction,
            f"{rules.margin_of(name):.0%}",
            f"{rules.floor_of(name):g}",
            rules.role_of(name),
            f"{rules.share_of(name):g}" if signal.measure else "1",
            rules.source_of(name),
        )
    console = Console()
    console.print(table)
    console.print(
        f"at most {rules.alpha_per_day:g} false alarms a day are expected, "
        f"{30 * rules.alpha_per_day:g} a month, however often one looks"
    )


def show(verdict: WatchVerdict, console: Console, *, as_json: bool = False) -> None:
    """Print a verdict for people, or as one line of JSON."""
    if as_json:
        import json

        row = verdict.row() | {"exit_code": verdict.exit_code}
        del row["state"]
        console.file.write(json.dumps(row, ensure_ascii=False, default=_iso) + "\n")
        console.file.flush()
        return
    _headline(verdict, console)
    _table(verdict, console)


def _say_unseen(line: str, console: Console, *, as_json: bool) -> None:
    if as_json:
        import json

        console.file.write(json.dumps({"line": line, "outcome": None}) + "\n")
        console.file.flush()
    else:
        console.print(f"{line}: never looked at; `ratchet watch check {line}`")


def _headline(verdict: WatchVerdict, console: Console) -> None:
    from rich.text import Text

    detail = verdict.detail
    digest = (verdict.model_digest or "")[:12]
    mark = Text(f" {verdict.outcome.upper()} ", style=_STYLES[verdict.outcome] + " reverse bold")
    said = Text(f" {verdict.line} · {digest}: {_in_words(verdict)}")
    console.print(mark + said)
    # The breaker counts requests, and knows of no conversations.
    talks = f"{detail['conversations']:,} conversations, " if "conversations" in detail else ""
    late = f", {detail['late']:,} came late" if detail.get("late") else ""
    console.print(
        f"{talks}{verdict.observations:,} observations{late}; "
        f"looked at {verdict.decided_at:%Y-%m-%d %H:%M} UTC",
        style="dim",
        highlight=False,
    )


def _in_words(verdict: WatchVerdict) -> str:
    if verdict.kind == "breaker":
        return "; ".join(signal.reason for signal in verdict.signals)
    if verdict.outcome == "fail":
        names = ", ".join(signal.signal for signal in verdict.failing())
        return f"{names} shown to be worse than the margin allows"
    if verdict.outcome == "pass":
        return "every required signal is shown to be within its margin"
    waiting = verdict.detail.get("waiting")
    if waiting:
        return f"its reference has {waiting['have']:,} of {waiting['need']:,} conversations"
    open_ = [s.signal for s in verdict.signals if s.required and s.outcome != "pass"]
    return f"nothing failed; not shown yet: {', '.join(open_) or 'anything'}"


def _table(verdict: WatchVerdict, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "signal", "value", "95%, at any time", "fails", "passes", "n", "why"):
        table.add_column(name, justify="right" if name == "n" else "left")
    for tier in ("service", "business", "quality"):
        rows = [s for s in verdict.signals if s.tier == tier and _worth_showing(s)]
        for at, signal in enumerate(rows):
            table.add_row(Text(tier if at == 0 else "", style="dim"), *_cells(signal))
    if table.row_count:
        console.print(table)
    silent = [s.signal for s in verdict.signals if not _worth_showing(s)]
    if silent:
        console.print(f"not measured: {', '.join(silent)}", style="dim", highlight=False)


def _worth_showing(signal: SignalVerdict) -> bool:
    return signal.n > 0 or signal.outcome != "inconclusive" or signal.required


def _cells(signal: SignalVerdict) -> list[Any]:
    from rich.text import Text

    sign = ("<", "≥") if signal.direction == "higher" else (">", "≤")
    name = Text(signal.signal)
    if not signal.required:
        name.append(" (advisory)", style="dim")
    style = _STYLES[signal.outcome] if signal.required else "dim"
    return [
        name,
        _number(signal.value),
        f"{_number(signal.low)} … {_number(signal.high)}" if signal.low is not None else "",
        f"{sign[0]} {_number(signal.reference)}" if signal.reference is not None else "",
        f"{sign[1]} {_number(signal.pass_limit)}" if signal.pass_limit is not None else "",
        f"{signal.n:,}",
        Text(signal.outcome if signal.outcome == "pass" else _why(signal), style=style),
    ]


def _why(signal: SignalVerdict) -> str:
    return f"{signal.outcome}: {signal.reason}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def _iso(value: Any) -> str:
    return str(value.isoformat())


def _line(named: str | None, registry: Registry) -> str:
    if named is not None:
        return named.removeprefix("line:")
    names = registry.lines()
    if len(names) == 1:
        return names[0]
    raise UserError(
        "say which line" if names else "nothing was ever promoted",
        hint=f"one of {', '.join(names)}" if names else "`ratchet promote` begins a line",
    )
