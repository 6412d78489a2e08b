"""`ratchet watch answer`: say that an alarm was seen, is none, can wait, or is somebody's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.comparison.line_state import Alarm, LineState

_UNITS = {"m": 60, "h": 3_600, "d": 86_400}


def answer(
    line: Annotated[str, typer.Argument(help="The line's name.", show_default=False)],
    alarm: Annotated[
        str | None,
        typer.Argument(
            help="The alarm's id, as `watch status` says it. Default: the newest unanswered one.",
            show_default=False,
        ),
    ] = None,
    false_alarm: Annotated[
        str | None, typer.Option("--false-alarm", help="It is none, for this reason; counted.")
    ] = None,
    snooze: Annotated[
        str | None, typer.Option("--snooze", help="Put it off: 30m, 2h or 3d from now.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Who takes care of it.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="A remark, kept with it.")] = None,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Take back what was answered before.")
    ] = False,
    actor: Annotated[
        str | None, typer.Option("--by", help="Who answers. Default: the user's name.")
    ] = None,
) -> None:
    """Answer an alarm. Without an option it is acknowledged: somebody has seen it.

    Acknowledging changes no verdict and no exit code; calling it false does.
    """
    from harness.cli.session import open_workspace
    from harness.comparison.attention_log import false_alarms, say
    from harness.comparison.line_reading import state_of
    from harness.comparison.line_words import said_of

    if false_alarm is not None and (snooze is not None or reopen):
        raise UserError("a false alarm is neither put off nor opened again", field="--false-alarm")
    name = line.removeprefix("line:")
    until = _until(snooze) if snooze is not None else None
    with open_workspace(make=False) as (store, _, console):
        about = _chosen(state_of(store, name), alarm).about
        if reopen:
            say(store, about, "reopened", line=name, actor=actor, reason=note)
        if false_alarm is not None:
            say(store, about, "false_alarm", line=name, actor=actor, reason=false_alarm)
        if until is not None:
            say(store, about, "snoozed", line=name, actor=actor, until=until, reason=note)
        if owner is not None:
            say(store, about, "owner", line=name, actor=actor, owner=owner)
        if note is not None and until is None and not reopen:
            say(store, about, "note", line=name, actor=actor, reason=note)
        if not (reopen or false_alarm or until or owner or note):
            say(store, about, "acknowledged", line=name, actor=actor)
        after = _chosen(state_of(store, name), about.partition(":")[2])
        said = said_of(after.answer) or "(nobody has answered it)"
        console.print(f"{after.incident.id} {said}", markup=False, highlight=False, soft_wrap=True)
        if false_alarm is not None:
            console.print(f"false alarms on {name} so far: {false_alarms(store, name)}")


def _chosen(state: LineState, wanted: str | None) -> Alarm:
    """The alarm of that id, else the newest that nobody has answered, else the newest."""
    if wanted is None:
        waiting = state.unanswered() or state.alarms
        if not waiting:
            raise UserError(
                f"there was no alarm on {state.line}",
                hint="`ratchet watch check` looks, `ratchet status` says how all lines do",
            )
        return waiting[0]
    found = [a for a in state.alarms if a.incident.id.startswith(wanted)]
    if len(found) != 1:
        known = ", ".join(a.incident.id for a in state.alarms) or "none yet"
        what = "begins more than one alarm" if found else "is no alarm"
        raise UserError(
            f"{wanted!r} {what} of {state.line}", field="alarm", hint=f"its alarms: {known}"
        )
    return found[0]


def _until(text: str) -> datetime:
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in _UNITS or not 0 < int(number) * _UNITS[unit] < 10**8:
        raise UserError(f"{text!r} is no time", field="--snooze", hint="30m, 2h or 3d")
    return datetime.now(UTC) + timedelta(seconds=int(number) * _UNITS[unit])
