"""The verdict on a served model as plain data, which goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from harness.core.types import Direction

Tier = Literal["service", "business", "quality"]
Kind = Literal["watch", "breaker", "canary"]
WatchOutcome = Literal["pass", "fail", "inconclusive"]
WatchRole = Literal["required", "advisory"]

EXIT_CODES: Mapping[WatchOutcome, int] = {"pass": 0, "fail": 1, "inconclusive": 2}


@dataclass(frozen=True, slots=True)
class AtAlarm:
    """A signal as it stood when its alarm was raised; these numbers never change afterwards.

    value, low, high   mean and 95% confidence sequence over the current window and the one before
    n                  conversations in them
    """

    at: datetime
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """One signal of one served model.

    value        mean over the conversations of the window, in the signal's unit; None for none
    low, high    its 95% confidence sequence: it may be looked at any time
    reference    the limit for FAIL: the bound of the reference that favours the model, with the
                 margin taken off (higher is better) or put on
    pass_limit   the limit for PASS: the reference's other bound, with the same margin
    n            conversations in the window
    e_value      the detector's wealth now, `threshold` is where it fails; None without a detector
    failed_at    when it last failed, where nothing since then has shown it well again
    at_alarm     the numbers that the alarm was raised on; `value` and `n` are of what came since
    reason       a sentence: why this outcome, and what is missing where it is inconclusive
    """

    signal: str
    tier: Tier
    outcome: WatchOutcome
    value: float | None
    low: float | None
    high: float | None
    reference: float | None
    n: int
    e_value: float | None
    reason: str
    role: WatchRole = "required"
    direction: Direction = "higher"
    pass_limit: float | None = None
    threshold: float | None = None
    unit: str = "share"
    failed_at: datetime | None = None
    at_alarm: AtAlarm | None = None

    @property
    def shown(self) -> AtAlarm | SignalVerdict:
        """Where value, interval and n are read for people: at the alarm, where it failed by one."""
        return self.at_alarm if self.outcome == "fail" and self.at_alarm is not None else self

    @property
    def required(self) -> bool:
        return self.role == "required"


@dataclass(frozen=True, slots=True)
class WatchVerdict:
    """Whether a served model is as good as its reference, as far as was known at `decided_at`.

    The outcome is `fail` where a required signal failed, `pass` where every required signal
    passed, else `inconclusive`. `state` is what the next look goes on from.
    """

    watch_id: str
    kind: Kind
    line: str
    model_digest: str | None
    reference_digest: str | None
    policy_digest: str | None
    outcome: WatchOutcome
    observations: int
    window_from: datetime | None
    window_to: datetime | None
    signals: tuple[SignalVerdict, ...]
    state: Mapping[str, Any]
    decided_at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def failing(self) -> tuple[SignalVerdict, ...]:
        """The required signals that failed."""
        return tuple(s for s in self.signals if s.required and s.outcome == "fail")

    def row(self) -> dict[str, Any]:
        """For the table watch_verdicts."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["signals"] = {s.signal: _plain(s) for s in self.signals}
        out["state"], out["detail"] = dict(self.state), dict(self.detail)
        return out

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> WatchVerdict:
        """The inverse of `row`, from a row as the store gives it back."""
        known: dict[str, Any] = {f.name: row.get(f.name) for f in fields(cls)}
        known["signals"] = tuple(_signal(s) for s in (row.get("signals") or {}).values())
        known["state"], known["detail"] = row.get("state") or {}, row.get("detail") or {}
        return cls(**known)


def _plain(signal: SignalVerdict) -> dict[str, Any]:
    out = asdict(signal)
    if signal.failed_at is not None:
        out["failed_at"] = signal.failed_at.isoformat()
    if signal.at_alarm is not None:
        out["at_alarm"]["at"] = signal.at_alarm.at.isoformat()
    return out


def _signal(data: Mapping[str, Any]) -> SignalVerdict:
    known = {f.name: data[f.name] for f in fields(SignalVerdict) if f.name in data}
    if known.get("failed_at") is not None:
        known["failed_at"] = datetime.fromisoformat(known["failed_at"])
    if known.get("at_alarm") is not None:
        at = datetime.fromisoformat(known["at_alarm"]["at"])
        known["at_alarm"] = AtAlarm(**{**known["at_alarm"], "at": at})
    return SignalVerdict(**known)
