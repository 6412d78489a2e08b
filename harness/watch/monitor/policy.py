"""What a line must keep to in production: a YAML file, or the defaults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.strict_model import StrictModel
from harness.core.text_file import read_text
from harness.core.yaml_file import load_yaml, validate
from harness.gate.policy import DEFAULT_MARGIN
from harness.watch.monitor import signals

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 3_650 * 86_400
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_WORDS = ("auto", "anchor", "previous", "first")


def seconds(duration: str | float) -> float:
    """`90`, `90s`, `10m`, `1.5h` or `7d` in seconds, ten years at most. Raises ValueError."""
    if isinstance(duration, int | float) and duration >= 0:
        found_s = float(duration)
    elif (match := _DURATION.fullmatch(str(duration).strip())) is not None:
        found_s = float(match.group(1)) * _SECONDS[match.group(2)]
    else:
        raise ValueError(f"a duration is written 90s, 10m, 6h or 7d, not {duration!r}")
    # Beyond it the calendar ends, and with it every moment that is counted back from now.
    if found_s > _LONGEST_S:
        raise ValueError(f"a duration is at most {_LONGEST_S // 86_400}d, not {duration!r}")
    return found_s


def _source(value: str) -> str:
    if value in _WORDS or re.fullmatch(r"[0-9a-f]{6,64}", value):
        return value
    raise ValueError(f"a reference is one of {', '.join(_WORDS)}, or a digest (6 digits or more)")


def _at_least(least_s: float, words: str) -> Callable[[float], float]:
    def check(found_s: float) -> float:
        if found_s < least_s:
            raise ValueError(f"window must be {words} at least")
        return found_s

    return check


Source = Annotated[str, AfterValidator(_source)]
"""`auto`, `anchor`, `previous`, `first`, or the digest of a checkpoint that served before."""

Duration = Annotated[float, BeforeValidator(seconds)]
"""Seconds; written `90`, `90s`, `10m`, `1.5h` or `7d`."""


class _Written(StrictModel):
    """Some fields have a name of their own in the file: `window` for `window_s`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)


class SignalPolicy(_Written):
    """The settings of one signal. None: the signal's own default, else the policy's.

    margin     share of the reference that may be lost
    floor      an absolute amount that may be lost on top, in the signal's unit
    required   it decides; `advisory`: it is only shown. Neither: as the signal declares, and
               required only where the reference has a value of it
    share      of the observations that it is computed on, chosen by a hash of their ids
    source     see `WatchPolicy.source`
    metric     "task/metric" of the anchor's run, for the source `anchor`
    options    of the signal itself: a judge's model, more sensitive words
    """

    margin: float | None = Field(default=None, ge=0, lt=1)
    floor: float | None = Field(default=None, ge=0, lt=1)
    required: bool = False
    advisory: bool = False
    share: float | None = Field(default=None, gt=0, le=1)
    source: Source | None = Field(default=None, validation_alias="reference")
    metric: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_role(self) -> Self:
        if self.required and self.advisory:
            raise ValueError("a signal is required or advisory, not both")
        return self


class BreakerPolicy(_Written):
    """The circuit breaker: it trips where, of at least `at_least` requests within `window_s`
    seconds, a share of `errors` or more failed. It is left out of the policy's digest, because
    the watch's state doesn't depend on it.
    """

    window_s: Annotated[Duration, AfterValidator(_at_least(1, "a second"))] = Field(
        default=60.0, validation_alias="window"
    )
    at_least: int = Field(default=20, ge=5)
    errors: float = Field(default=0.5, gt=0, le=1)


class WatchPolicy(_Written):
    """The whole policy.

    margin           δ for every signal that declares none of its own
    alpha_per_day    false alarms that are expected a day, over all required signals, at most
    window_s         an interval covers the current window and the one before; PASS rests on it
    settle_s         a conversation counts this long after its first observation
    source           what a version is compared with: its `anchor`'s scores, the observations of
                     the `previous` version or of one named by digest, or its own `first` ones;
                     `auto` is the previous version where it served enough, else its own first
    conversations    how many of them make a reference
    reference_alpha  chance that any bound of the reference is wrong
    signals          overrides by name; False leaves a signal out
    breaker          the circuit breaker; False for none
    """

    margin: float = Field(default=DEFAULT_MARGIN, ge=0, lt=1)
    alpha_per_day: float = Field(default=0.001, gt=0, lt=0.5)
    window_s: Annotated[Duration, AfterValidator(_at_least(60, "a minute"))] = Field(
        default=86_400.0, validation_alias="window"
    )
    settle_s: Duration = Field(default=600.0, validation_alias="settle")
    source: Source = Field(default="auto", validation_alias="reference")
    conversations: int = Field(default=1000, ge=20)
    reference_alpha: float = Field(default=0.01, gt=0, lt=0.5)
    signals: Mapping[str, SignalPolicy | Literal[False]] = Field(default_factory=dict)
    breaker: BreakerPolicy | Literal[False] = Field(default_factory=BreakerPolicy)

    @field_validator("source")
    @classmethod
    def _not_the_anchor(cls, value: str) -> str:
        if value == "anchor":
            raise ValueError("`anchor` is set per signal, together with the metric to compare with")
        return value

    @property
    def digest(self) -> str:
        """Of everything but the breaker. A policy with another digest starts a watch of its own."""
        said = self.model_dump(exclude={"breaker"})
        # Stored watches are found by it, and theirs has null for a signal that is left out.
        said["signals"] = {name: own or None for name, own in said["signals"].items()}
        return digest_of(said)

    def watched(self) -> dict[str, SignalPolicy]:
        """Every signal that is computed, by name, in the order of the tiers."""
        found = {}
        for name, signal in signals.BY_NAME.items():
            own = self.signals.get(name, SignalPolicy() if signal.default else False)
            if own:
                found[name] = own
        return found

    def of(self, name: str) -> SignalPolicy:
        return self.signals.get(name) or SignalPolicy()

    def margin_of(self, name: str) -> float:
        own = self.of(name).margin
        declared = signals.BY_NAME[name].margin
        return own if own is not None else self.margin if declared is None else declared

    def floor_of(self, name: str) -> float:
        own = self.of(name).floor
        return signals.BY_NAME[name].floor if own is None else own

    def share_of(self, name: str) -> float:
        own = self.of(name).share
        return signals.BY_NAME[name].share if own is None else own

    def source_of(self, name: str) -> Source:
        return self.of(name).source or self.source

    def role_of(self, name: str) -> Literal["required", "advisory", "if measured"]:
        own = self.of(name)
        if own.required:
            return "required"
        return "advisory" if own.advisory or signals.BY_NAME[name].advisory else "if measured"


DEFAULT_WATCH_POLICY = WatchPolicy()


def load_policy(path: Path | None) -> WatchPolicy:
    """The policy in a YAML file; the defaults without one.

    Raises UserError with file, line and field.
    """
    if path is None:
        return DEFAULT_WATCH_POLICY
    if not read_text(path, what="watch policy").strip():
        return DEFAULT_WATCH_POLICY
    document = load_yaml(path, what="watch policy")
    policy = validate(WatchPolicy, document)
    for name, own in policy.signals.items():
        if name not in signals.BY_NAME:
            raise _unknown(document.error, name)
        if own:
            _check_options(document.error, name, own)
    return policy


def _unknown(error: Any, name: str) -> UserError:
    near = difflib.get_close_matches(name, signals.BY_NAME, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(signals.BY_NAME)}"
    found: UserError = error(f"there is no signal {name!r}", ("signals", name), hint=hint)
    return found


def _check_options(error: Any, name: str, own: SignalPolicy) -> None:
    if own.source == "anchor" and own.metric is None and not signals.BY_NAME[name].centred:
        raise error(
            "the reference `anchor` needs `metric: TASK/METRIC` of its run",
            ("signals", name, "reference"),
            hint="the metric as the suite names it, like `metric: intents/json_match`",
        )
    known = signals.BY_NAME[name].options
    for option in own.options:
        if option not in known:
            raise error(
                f"the signal {name!r} takes no option {option!r}",
                ("signals", name, "options", option),
                hint=f"it takes {', '.join(known)}" if known else "leave `options:` out",
            )
    for needed in signals.BY_NAME[name].needs:
        if needed not in own.options:
            raise error(
                f"the signal {name!r} needs the option {needed!r}",
                ("signals", name),
                hint=f"add `options: {{{needed}: ...}}`",
            )
    if own.options:
        signals.check_options(signals.BY_NAME[name], own.options)
