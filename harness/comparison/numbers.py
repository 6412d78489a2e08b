"""Two lists of numbers, one for each side of the same samples, made into a verdict."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from harness.comparison.stored_runs import policy_over, read_policy
from harness.core.errors import UserError
from harness.core.types import Direction
from harness.gate.decision import decide
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.gate.verdict import Verdict
from harness.store.runs import now

Scale = Literal["ratio", "interval"]
OneMetric = "value"
"""The metric's name where a list is given without one."""


class Array(Protocol):
    """An array of NumPy, PyTorch or pandas."""

    def tolist(self) -> Any: ...


Numbers = Sequence[float] | Array
Values = Numbers | Mapping[str, Numbers]
"""One number a sample; or such a list for each metric, by its name."""

OptionT = TypeVar("OptionT")


def gate_numbers(
    candidate: Values,
    against: Values,
    *,
    policy: GatePolicy | Mapping[str, Any] | str | Path | None = None,
    margin: float | None = None,
    direction: Direction | Mapping[str, Direction] = "higher",
    low: float | Mapping[str, float] | None = None,
    high: float | Mapping[str, float] | None = None,
    scale: Scale | Mapping[str, Scale] | None = None,
) -> Verdict:
    """Compare two lists of per-sample values; the n-th number of both sides is of the same sample.

    policy      a policy, the keys of a `gate:` block, or a YAML file; `margin` takes the place of
                its margin, 0.05 allows a drop of 5%
    direction   whether higher or lower is better
    low, high   the ends of the metric's range, where it has them
    scale       `ratio` where 0 is a true zero, so that the margin is a share of the anchor's value;
                `interval` where it isn't, as for log-odds: the margin is then a share of the
                anchor's spread. By default `interval` where `low` is below 0

    Except for `policy` and `margin`, each may be a mapping from a metric's name. Raises UserError
    for values that aren't finite numbers, lists of different lengths, and metrics that one side
    lacks.
    """
    sides = _named(candidate, "candidate"), _named(against, "against")
    _require_same(*sides)
    options = {"direction": direction, "low": low, "high": high, "scale": scale}
    _require_known(options, sides[1])
    ours, theirs = (
        {
            name: _scores(
                f"{side}[{name!r}]" if name != OneMetric else side,
                values,
                direction=_of(direction, name) or "higher",
                low=_of(low, name),
                high=_of(high, name),
                scale=_of(scale, name),
            )
            for name, values in named.items()
        }
        for side, named in zip(("candidate", "against"), sides, strict=True)
    )
    return decide(theirs, ours, _policy(policy, margin, list(theirs)), today=now().date())


def _named(values: Values, side: str) -> dict[str, list[float]]:
    """Metric -> its numbers, checked one by one."""
    if not isinstance(values, Mapping):
        return {OneMetric: _numbers(values, side)}
    if not values:
        raise UserError(f"{side} has no metric", hint='give lists by name: {"accuracy": [1, 0, 1]}')
    return {str(name): _numbers(one, f"{side}[{name!r}]") for name, one in values.items()}


def _numbers(values: Any, what: str) -> list[float]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(
            f"{what} is {_kind(values)}, where a list of numbers was expected",
            hint="give one number a sample, in the same order on both sides",
        )
    if not values:
        raise UserError(f"{what} is empty", hint="give one number a sample")
    return [_number(value, f"{what}[{at}]") for at, value in enumerate(values)]


def _number(value: Any, what: str) -> float:
    if isinstance(value, Sequence) and not isinstance(value, str):
        raise UserError(
            f"{what} is {_kind(value)}: several numbers for one sample",
            hint="give their mean, one number a sample",
        )
    if hasattr(value, "item") and not isinstance(value, Real):
        value = value.item()
    if not isinstance(value, Real):
        raise UserError(f"{what} is {_kind(value)}, where a number was expected")
    number = float(value)
    if not math.isfinite(number):
        raise UserError(
            f"{what} is {number}, which can't be compared",
            hint="leave this sample out on both sides, or say what a failed answer is worth",
        )
    return number


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _require_same(ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]]) -> None:
    for name in dict.fromkeys([*theirs, *ours]):
        if name not in ours or name not in theirs:
            has, lacks = ("against", "candidate") if name in theirs else ("candidate", "against")
            raise UserError(
                f"{has} has a metric {name!r} that {lacks} doesn't have",
                hint="give both sides the same metrics, or lists without names",
            )
        if len(ours[name]) != len(theirs[name]):
            of = "" if name == OneMetric else f" of {name!r}"
            raise UserError(
                f"candidate has {len(ours[name])} numbers{of}, and against {len(theirs[name])}",
                hint="both sides must be of the same samples, in the same order",
            )


def _require_known(options: Mapping[str, Any], metrics: Collection[str]) -> None:
    for option, given in options.items():
        for name in given if isinstance(given, Mapping) else ():
            if name not in metrics:
                raise UserError(
                    f"{option} is given for {name!r}, which is not one of the metrics",
                    field=option,
                    hint=f"the metrics are: {', '.join(sorted(metrics))}",
                )


def _of(given: OptionT | Mapping[str, OptionT] | None, name: str) -> OptionT | None:
    return given.get(name) if isinstance(given, Mapping) else given


def _scores(
    what: str,
    values: list[float],
    *,
    direction: Direction,
    low: float | None,
    high: float | None,
    scale: Scale | None,
) -> MetricScores:
    if direction not in ("higher", "lower"):
        raise UserError(
            f"direction is {direction!r}",
            field="direction",
            hint='say "higher" or "lower" is better',
        )
    if scale not in (None, "ratio", "interval"):
        raise UserError(f"scale is {scale!r}", field="scale", hint='say "ratio" or "interval"')
    for name, end in (("low", low), ("high", high)):
        if end is not None:
            _number(end, name)
    scale = scale or ("interval" if low is not None and low < 0 else "ratio")
    for at, value in enumerate(values):
        if (low is not None and value < low) or (high is not None and value > high):
            raise UserError(
                f"{what}[{at}] is {value:g}, outside of the range from "
                f"{'−∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}",
                field="low" if low is not None and value < low else "high",
            )
        if scale == "ratio" and value < 0:
            raise UserError(
                f"{what}[{at}] is {value:g}: no share can be taken of a value below 0",
                field="scale",
                hint='say scale="interval": the margin is then a share of the anchor\'s spread',
            )
    worst, best = (low, high) if direction == "higher" else (high, low)
    return MetricScores(
        {str(at): value for at, value in enumerate(values)},
        direction=direction,
        scale=scale,
        worst=worst,
        best=best,
    )


def _policy(
    given: GatePolicy | Mapping[str, Any] | str | Path | None,
    margin: float | None,
    metrics: list[str],
) -> GatePolicy:
    if given is None:
        policy = GatePolicy()
    elif isinstance(given, GatePolicy | Mapping):
        policy = policy_over(given, metrics)
    else:
        policy = read_policy(Path(given), metrics)
    if margin is None:
        return policy
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        raise UserError(
            f"margin is {_kind(margin)}, where a share was expected",
            field="margin",
            hint="0.05 allows a drop of 5%",
        )
    return policy.changed(margin=margin)
