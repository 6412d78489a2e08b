"""`ratchet watch check` and `status`: whether a served line is still as good as promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import ALL_SHOWS, AllOption, WatchPolicyOption
from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.line_state import LineState
    from harness.registry.registry import Registry
    from harness.watch.monitor.verdict import SignalVerdict, WatchVerdict

LineArgument = Annotated[
    str | None, typer.Argument(help="The line's name. Default: the only line.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for each verdict.")]


def check(
    line: LineArgument = None,
    policy: WatchPolicyOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Repeat until it fails, or until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=1, help="With --follow: seconds between two looks.")
    ] = 60.0,
    act: Annotated[
        bool, typer.Option("--act", help="Roll back what failed. Default: only say so.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook", help="A URL that gets one POST for each FAIL.", show_default=False
        ),
    ] = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge by its traffic whether what a line serves got worse.

    Look as often as you like: the rate of false alarms is per day, not per look.
    With --follow --act it goes on after a FAIL, with the version rolled back to.
    Exits 0 pass, 1 fail, 2 inconclusive, 3 bad input.
    """
    import time
    from datetime import UTC, datetime

    from harness.cli.session import open_workspace
    from harness.cli.watch_act import check_webhook, respond
    from harness.comparison.line_facts import uncounted
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
                fresh = uncounted(store).get(name, 0)
                show(verdict, console, as_json=as_json, everything=everything, settling=fresh)
                if verdict.outcome == "fail":
                    respond(
                        verdict, registry, store, console, act=act, webhook=webhook, as_json=as_json
                    )
                shown = verdict.watch_id
            if not follow or (verdict.outcome == "fail" and not act):
                raise typer.Exit(verdict.exit_code)
            time.sleep(every)


def status(
    line: LineArgument = None, everything: AllOption = False, as_json: JsonOption = False
) -> None:
    """Show the last verdict on each line, without a new look, and what was done about a FAIL.

    Exits 0 where all pass, 1 where anything that is served fails, 2 where
    something is not shown yet, 3 for bad input.
    """
    from harness.cli.session import open_workspace
    from harness.comparison.line_reading import state_of
    from harness.watch.monitor.look import latest

    codes = []
    with open_workspace(make=False) as (store, registry, console):
        names = [_line(line, registry)] if line else registry.lines()
        if not names:
            raise UserError("nothing was ever promoted", hint="`ratchet promote` begins a line")
        for name in names:
            state = state_of(store, name)
            codes.append(_code(state))
            verdict, promoted = latest(store, name), registry.promoted(name)
            if verdict is None:
                _say_unseen(name, console, as_json=as_json)
                continue
            fresh = state.serving.uncounted
            show(verdict, console, as_json=as_json, everything=everything, settling=fresh)
            if not as_json:
                _say_alarms(state, console)
            if promoted is not None and promoted.digest != verdict.model_digest and not as_json:
                console.print(f"{name} serves {promoted.digest[:12]} by now: run `check`")
    raise typer.Exit(max(codes, key=(0, 2, 1).index))


def _code(state: LineState) -> int:
    if state.alarm_on_served() is not None:
        return 1
    return 0 if state.serving.outcome == "pass" else 2


def _say_alarms(state: LineState, console: Console) -> None:
    """What was done about each alarm that nobody has answered, or that lasts."""
    from rich.text import Text

    from harness.comparison.line_words import alarm_sentence, said_of

    unanswered = state.unanswered()
    for alarm in state.alarms:
        if alarm.present or alarm in unanswered:
            style = "red" if alarm.present else "yellow"
            said = " ".join(
                filter(None, [str(alarm_sentence(state, alarm)), said_of(alarm.answer)])
            )
            console.print(Text(said, style), soft_wrap=True)
            console.print(
                Text(f"answer it: ratchet watch answer {state.line} {alarm.incident.id}", "dim"),
                soft_wrap=True,
            )


def policy(
    file: Annotated[
        Path | None,
        typer.Argument(help="A YAML file. Default: the built-in policy.", show_default=False),
    ] = None,
) -> None:
    """Show a policy's settings for each signal, defaults included. Exits 3 if it can't be read."""
    from rich.console import Console

    from harness.report.table import FittedTable
    from harness.watch.monitor.policy import load_policy
    from harness.watch.monitor.signals import BY_NAME

    rules = load_policy(file)
    titles = ("signal", "tier", "better", "margin", "floor", "role", "share", "reference")
    table = FittedTable(titles, frozenset({"tier", "better", "role", "reference"}))
    for name in rules.watched():
        signal = BY_NAME[name]
        table.add(
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
        f"expect at most {rules.alpha_per_day:g} false alarms a day, "
        f"{30 * rules.alpha_per_day:g} a month, however often you look"
    )


def show(
    verdict: WatchVerdict,
    console: Console,
    *,
    as_json: bool = False,
    everything: bool = False,
    settling: int = 0,
) -> None:
    """Print a verdict for people, or as one line of JSON.

    `settling` conversations came in that it could not count yet.
    """
    if as_json:
        import json

        row = verdict.row() | {"exit_code": verdict.exit_code, "uncounted": settling}
        del row["state"]
        console.file.write(json.dumps(row, ensure_ascii=False, default=_iso) + "\n")
        console.file.flush()
        return
    _headline(verdict, console, settling)
    _table(verdict, console, everything=everything)


def _say_unseen(line: str, console: Console, *, as_json: bool) -> None:
    if as_json:
        import json

        console.file.write(json.dumps({"line": line, "outcome": None}) + "\n")
        console.file.flush()
    else:
        console.print(f"{line}: not judged yet; run `ratchet watch check {line}`")


def _headline(verdict: WatchVerdict, console: Console, settling: int) -> None:
    from rich.text import Text

    detail = verdict.detail
    digest = (verdict.model_digest or "")[:12]
    mark = Text(f" {verdict.outcome.upper()} ", style=_STYLES[verdict.outcome] + " reverse bold")
    said = Text(f" {verdict.line} · {digest}: {_in_words(verdict)}")
    console.print(mark + said)
    # The breaker counts requests, and knows of no conversations.
    talks = f"{detail['conversations']:,} conversations, " if "conversations" in detail else ""
    late = f", {detail['late']:,} came late" if detail.get("late") else ""
    more = f"; {settling:,} more conversations are not counted yet" if settling else ""
    console.print(
        f"{talks}{verdict.observations:,} observations{late}{more}; "
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


def _table(verdict: WatchVerdict, console: Console, *, everything: bool) -> None:
    from rich.text import Text

    from harness.report.table import FittedTable, Flowed

    seen = [signal for signal in verdict.signals if _worth_showing(signal)]
    some_required = any(signal.required for signal in seen)
    shown = [s for s in seen if s.required or everything or not some_required]
    titles = ("signal", "value", "95%, at any time", "fails", "passes", "n", "")
    table = FittedTable(titles, frozenset({""}))
    for tier in ("service", "business", "quality"):
        rows = [signal for signal in shown if signal.tier == tier]
        if rows:
            table.say(tier)
        for signal in sorted(rows, key=lambda signal: not signal.required):
            style = _STYLES[signal.outcome] if signal.required else "dim"
            word = signal.outcome if signal.required else f"({signal.outcome})"
            table.add(f"  {signal.signal}", *_cells(signal), Text(word, style))
    if shown:
        console.print(table)
    for signal in shown:
        if signal.outcome != "pass":
            style = _STYLES[signal.outcome] if signal.required else "dim"
            console.print(Text(f"{signal.signal}: {signal.reason}", style))
    if len(shown) < len(seen):
        folded = [signal for signal in seen if signal not in shown]
        console.print(Text(f"{_folded(folded)}; {ALL_SHOWS}", "dim"))
    silent = [s.signal for s in verdict.signals if not _worth_showing(s)]
    if silent:
        console.print(Flowed(silent, ", ", first="not measured:", indent=2, style="dim"))


def _folded(signals: Sequence[SignalVerdict]) -> str:
    """`3 advisory signals: 1 fail, 2 pass`."""
    counts = Counter[str](signal.outcome for signal in signals)
    said = ", ".join(f"{counts[word]} {word}" for word in _STYLES if counts[word])
    return f"{len(signals)} advisory signal{'s' if len(signals) != 1 else ''}: {said}"


def _worth_showing(signal: SignalVerdict) -> bool:
    return signal.n > 0 or signal.outcome != "inconclusive" or signal.required


def _cells(signal: SignalVerdict) -> list[str]:
    sign = ("<", "≥") if signal.direction == "higher" else (">", "≤")
    shown = signal.shown
    return [
        _number(shown.value),
        f"{_number(shown.low)} … {_number(shown.high)}" if shown.low is not None else "",
        f"{sign[0]} {_number(signal.reference)}" if signal.reference is not None else "",
        f"{sign[1]} {_number(signal.pass_limit)}" if signal.pass_limit is not None else "",
        f"{shown.n:,}",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


_STYLES = {"fail": "red", "pass": "green", "inconclusive": "yellow"}


def _iso(value: Any) -> str:
    return str(value.isoformat())


def _line(named: str | None, registry: Registry) -> str:
    if named is not None:
        return named.removeprefix("line:")
    names = registry.lines()
    if len(names) == 1:
        return names[0]
    raise UserError(
        "there are several lines: name one" if names else "nothing was ever promoted",
        hint=f"one of {', '.join(names)}" if names else "`ratchet promote` begins a line",
    )
