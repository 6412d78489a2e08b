"""The `gate:` block of a suite: margins, roles and error rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from harness.core.errors import UserError
from harness.core.protocol import MetricName
from harness.core.strict_model import StrictModel, fault
from harness.core.types import FailRule

DEFAULT_MARGIN = 0.05
"""δ where a policy sets none: a loss of 5% of the anchor's value."""

Rule = Literal["paired", "point"]
Role = Literal["required", "watched", "advisory"]
"""`required`: must pass. `watched`: may fail, needn't pass. `advisory`: shown, decides nothing."""


def _share(margin: float | Literal["auto"]) -> float | Literal["auto"]:
    if margin != "auto" and not 0 <= margin < 1:
        raise ValueError(f"a margin is a share from 0 up to 1 (0.05 allows 5%), not {margin}")
    return margin


Margin = Annotated[float | Literal["auto"], AfterValidator(_share)]


class Waiver(StrictModel):
    """Why one metric may not stop a candidate for a while. `expires` is the last day it holds."""

    reason: str = Field(min_length=1)
    expires: date | None = None

    def holds_on(self, today: date | None) -> bool:
        """Whether it is in force. A waiver with a date never holds where no day is given."""
        return self.expires is None or (today is not None and today <= self.expires)


class MetricPolicy(StrictModel):
    """The gate's settings for one metric (`gate: metrics:`). None means the whole policy's.

    margin          δ, a share of the anchor; "auto" passes at `frozen_margin` and fails at δ
    frozen_margin   the margin that calibration froze for "auto"
    floor           ε: an absolute amount that is allowed on top, in the metric's unit
    required        must PASS; where no metric is required, every one that isn't advisory is
    advisory        shown, never decides
    at_least, at_most   the candidate's value, whatever the anchor has
    rate_at_most    share of the candidate's responses over the metric's threshold
    rate_over       that threshold, where the run carries no rates of its own
    by              a field of the samples: each of its values is gated separately as well
    fixed_set       claim these samples only: the standard error comes from each sample's variance
                    over its responses (Pass@k needs at least 2k of them)
    interleaved     the rounds of both runs took turns on one machine: only then may a timing decide
    waiver          a reason, and until when
    """

    margin: Margin | None = None
    frozen_margin: float | None = Field(default=None, ge=0, lt=1)
    floor: float | None = Field(default=None, ge=0)
    required: bool = False
    advisory: bool = False
    at_least: float | None = None
    at_most: float | None = None
    rate_at_most: float | None = Field(default=None, gt=0, lt=1)
    rate_over: float = 0.3
    by: str | None = None
    fixed_set: bool = False
    interleaved: bool = False
    waiver: Waiver | None = None

    @model_validator(mode="after")
    def _one_role(self) -> Self:
        if self.required and self.advisory:
            raise ValueError("a metric is required or advisory, not both")
        return self

    @property
    def has_requirement(self) -> bool:
        return any(x is not None for x in (self.at_least, self.at_most, self.rate_at_most))


class GatePolicy(StrictModel):
    """A suite's `gate:` block. The defaults are meant to be right without being touched.

    margin        δ for every metric with a true zero
    alpha         chance of a false FAIL, and of a false PASS, over all metrics and looks of one
                  decision. A training divides its own alpha by its planned checkpoints
    fail_rule     `drop`: at the last look a proven drop whose best estimate exceeds the margin
                  fails as well. `strict`: only a drop that is proven to exceed it
    rule          `paired`, or `point`: the bare comparison of two means, without any statistics
    error_share   with a larger share of errors than this the runs can't be compared
    looks         planned evidence at each look, cumulative, in any unit: (1, 2, 4)
    better_by     what an improvement must exceed, a share of the anchor's value
    metrics       overrides, by "task/metric" or by the metric's name in every task
    """

    margin: Margin = DEFAULT_MARGIN
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    fail_rule: FailRule = "drop"
    rule: Rule = "paired"
    error_share: float = Field(default=0.01, ge=0, lt=1)
    looks: tuple[float, ...] | None = None
    better_by: float = Field(default=0.0, ge=0)
    metrics: Mapping[str, MetricPolicy] = Field(default_factory=dict)

    @field_validator("looks")
    @classmethod
    def _rising(cls, looks: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if looks is not None and any(b <= a for a, b in pairwise((0.0, *looks))):
            raise ValueError("looks are cumulative: rising positive numbers such as [1, 2, 4]")
        return looks

    def of(self, metric: str) -> MetricPolicy:
        """The policy of "task/metric": its own entry, else the one under the metric's name."""
        own = self.metrics.get(metric) or self.metrics.get(MetricName.parse(metric).metric)
        return own or MetricPolicy()

    def margin_of(self, metric: str) -> float:
        """δ for FAIL, a share. Under "auto" only PASS gets a wider margin; this one stays."""
        own = self.of(metric).margin
        if isinstance(own, float | int):
            return float(own)
        return DEFAULT_MARGIN if self.margin == "auto" else float(self.margin)

    def pass_margin_of(self, metric: str) -> float:
        """The margin at which the metric passes: δ, or what calibration froze for "auto"."""
        own = self.of(metric)
        frozen = own.frozen_margin if self.is_auto(metric) else None
        return max(self.margin_of(metric), frozen or 0.0)

    def is_auto(self, metric: str) -> bool:
        """Whether the metric's margin for PASS comes from calibration (`margin: auto`)."""
        own = self.of(metric).margin
        return own == "auto" or (own is None and self.margin == "auto")

    def roles(self, metrics: Collection[str], timed: Collection[str] = ()) -> dict[str, Role]:
        """The role of each metric; with none required, every one that isn't advisory is.

        The `timed` ones measure the machine as well: they are advisory, whatever the policy asks
        of them, unless it says that their rounds were interleaved.
        """
        # Without any required metric the safe reading is that all of them are.
        idle = {m for m in metrics if self.of(m).advisory or self.is_idle_timing(m, timed)}
        named = [m for m in metrics if self.of(m).required and m not in idle]
        roles: dict[str, Role] = {}
        for metric in metrics:
            if metric in idle:
                roles[metric] = "advisory"
            else:
                roles[metric] = "required" if self.of(metric).required or not named else "watched"
        return roles

    def is_idle_timing(self, metric: str, timed: Collection[str]) -> bool:
        """Whether it is a timing of rounds that were not interleaved, which decides nothing."""
        return metric in timed and not self.of(metric).interleaved

    def with_alpha(self, alpha: float) -> GatePolicy:
        """The same policy at another error rate: a checkpoint's share of its training's alpha."""
        return self.changed(alpha=alpha)

    def with_frozen(self, margins: Mapping[str, float]) -> GatePolicy:
        """The same policy with the margins that calibration froze, by "task/metric"."""
        metrics = dict(self.metrics)
        for name, margin in margins.items():
            metrics[name] = self.of(name).changed(frozen_margin=margin)
        return self.changed(metrics=metrics)


DEFAULT_POLICY = GatePolicy()


def policy_from_mapping(mapping: Mapping[str, Any]) -> GatePolicy:
    """The policy of a `gate:` block's keys as a mapping. Raises UserError naming the field."""
    try:
        return GatePolicy.model_validate(dict(mapping))
    except ValidationError as error:
        what, place, hint = fault(error, GatePolicy)
        raise UserError(
            f"the gate's policy can't be used: {what}",
            field=".".join(map(str, ("gate", *place))),
            hint=hint or "see docs/gate.md for the keys that `gate:` takes",
        ) from None
