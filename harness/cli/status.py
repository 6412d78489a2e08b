"""`ratchet status`: what is promoted, what holds the candidate, and how production does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.session import open_workspace

if TYPE_CHECKING:
    from rich.console import Console

    from harness.comparison.line_state import LineState

_SEVERITY = (0, 2, 1)
"""Exit codes from the mildest: what fails in production stands over what waits."""


def status(
    line: Annotated[
        str | None, typer.Argument(help="A line's name. Default: all lines.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each line.")
    ] = False,
) -> None:
    """Say what is promoted, what holds the candidate, and how production does.

    Exits 0 where all is well, 1 where what is served fails, 2 where something
    waits for a decision, 3 for bad input.
    """
    from harness.comparison.line_reading import state_of, states
    from harness.comparison.line_words import exit_code

    with open_workspace(make=False) as (store, _, console):
        name = line.removeprefix("line:") if line else None
        found = [state_of(store, name)] if name else states(store)
        for state in found:
            (_print_json if as_json else _print)(state, console)
        if not found and not as_json:
            console.print("nothing was promoted, trained for a line or watched here yet")
        codes = [exit_code(state) for state in found]
        raise typer.Exit(max(codes, key=_SEVERITY.index, default=0))


def _print(state: LineState, console: Console) -> None:
    from rich.text import Text

    from harness.comparison import line_words as words

    console.print(Text(state.line, "bold"))
    rows = [("ship?", sentence) for sentence in words.ship(state)]
    rows.append(("serving?", words.serving(state)))
    rows += [
        ("", said) for said in [words.settling(state), words.canary(state)] if said is not None
    ]
    before = ""
    for label, sentence in rows:
        shown = "" if label == before else label
        before = label or before
        style = "red" if sentence.text.startswith("FAIL") else ""
        console.print(Text(f"  {shown:<9} {sentence}", style), soft_wrap=True)
    for stand in state.trainings:
        if stand.state == "running":
            of = f" of {stand.planned}" if stand.planned else ""
            said = f"{stand.training_id} is at step {stand.step or 0}{of}"
            console.print(Text(f"  {'training':<9} {said}"), soft_wrap=True)
    for need in words.needs(state):
        owner = f" ({need.answer.owner})" if need.answer.owner else ""
        style = "red" if need.level == "act" else "yellow"
        console.print(Text(f"  {need.level:<9} {need.sentence}{owner}", style), soft_wrap=True)


def _print_json(state: LineState, console: Console) -> None:
    import json

    console.file.write(json.dumps(as_plain(state), ensure_ascii=False, default=str) + "\n")


def as_plain(state: LineState) -> dict[str, Any]:
    """A line's state in JSON types, as `ratchet status --json` prints it."""
    from dataclasses import asdict

    from harness.comparison import line_words as words

    serving, alarm = state.serving, state.alarm_on_served()
    return {
        "line": state.line,
        "promoted": asdict(state.promoted) if state.promoted else None,
        "candidate": asdict(state.candidate) if state.candidate else None,
        "judged_since": state.judged,
        "trainings": [asdict(stand) for stand in state.trainings],
        "serving": {
            "watched": serving.watched,
            "outcome": serving.outcome,
            "false_alarm": serving.false_alarm,
            "alarm": alarm.incident.id if alarm else None,
            "advisory": [signal.signal for signal in serving.advisory],
            "canary": serving.canary,
            "share": serving.share,
            "uncounted": serving.uncounted,
        },
        "alarms": [
            {
                "id": alarm.incident.id,
                "kind": alarm.incident.kind,
                "signals": [signal.signal for signal in alarm.incident.failed],
                "began_at": alarm.incident.began_at.isoformat(),
                "present": alarm.present,
                "acknowledged_by": alarm.answer.acknowledged_by,
                "false_alarm": alarm.answer.false_alarm,
                "owner": alarm.answer.owner,
            }
            for alarm in state.alarms
        ],
        "needs": [
            {"level": need.level, "about": need.about, "text": need.sentence}
            for need in words.needs(state)
        ],
        "exit_code": words.exit_code(state),
    }
