"""The verdict as plain data, which goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from harness.core.types import Direction, VerdictOutcome
from harness.gate.policy import Role

SCHEMA_VERSION = 1
"""Raised when a field of the JSON form changes its meaning or goes away."""

Arm = Literal["strict", "drop", "pass", "earlier", "absolute", "point", "waived", "lost", "none"]
"""What decided a row. `strict`: worse than the margin allows. `drop`: a drop is proven, and its
best estimate exceeds the margin. `pass`: within the margin. `earlier`: passed at an earlier look.
`absolute`: a requirement on the candidate alone. `point`: the bare rule. `lost`: a sandbox or a
server took the evidence with it. `none`: nothing yet."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Moved:
    """One of the samples that moved most. z > 0 is worse than the margin allows."""

    id: str
    z: float
    anchor: float
    candidate: float


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One row: one metric, one slice of it, or one absolute requirement.

    anchor, candidate   values in the metric's own unit
    change              candidate − anchor in that unit; `interval` is two-sided at `level`
    relative            change as a share of the anchor; None where that means nothing
    margin, floor       δ and ε as they were used; `pass_margin` is the one for PASS
    allowed             the worst change that δ and ε allow, in the metric's unit, signed
    allowed_relative    the same as a share of the anchor
    mean_z              > 0: worse than allowed, in the unit of z (nats a document for perplexity)
    p_worse             one-sided p of "worse than the margin allows", unadjusted
    p_drop              of "any drop at all", unadjusted
    p_within            of "within the margin", unadjusted
    p_adjusted          Holm's value of the arm that failed, else the smaller of both arms
    needed              samples with which PASS would come in 80%, if nothing really changed
    limit               the bound of an absolute requirement, and `requirement` its name
    moved               the ten samples that moved most
    """

    metric: str
    role: Role
    outcome: VerdictOutcome
    arm: Arm
    slice: str | None = None
    direction: Direction = "higher"
    scale: str = "ratio"
    form: str = "mean"
    anchor: float | None = None
    candidate: float | None = None
    change: float | None = None
    interval: Interval | None = None
    relative: float | None = None
    relative_interval: Interval | None = None
    level: float = 0.95
    margin: float | None = None
    pass_margin: float | None = None
    floor: float | None = None
    allowed: float | None = None
    allowed_relative: float | None = None
    mean_z: float | None = None
    se: float | None = None
    t: float | None = None
    df: float | None = None
    p_worse: float | None = None
    p_drop: float | None = None
    p_within: float | None = None
    p_adjusted: float | None = None
    guarded: bool = False
    n: int = 0
    clusters: int = 0
    needed: int | None = None
    requirement: str | None = None
    limit: float | None = None
    false_alarm: float | None = None
    moved: tuple[Moved, ...] = ()
    reason: str = ""

    @property
    def required(self) -> bool:
        return self.role == "required"

    @property
    def name(self) -> str:
        """`intents/json_match`, with `[zh]` behind it for a slice, or the requirement."""
        label = f"{self.metric}[{self.slice}]" if self.slice is not None else self.metric
        return f"{label} {self.requirement}" if self.requirement else label


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, one row per question, and why.

    headline    one sentence in plain words
    reasons     what else a reader must know: evidence that is missing, waivers, lost samples
    settle      what would settle it; empty where it is settled
    alpha       what this look could spend, of `policy_alpha`
    look        (j, J): the place in the planned schedule
    """

    outcome: VerdictOutcome
    rows: tuple[MetricVerdict, ...]
    headline: str = ""
    reasons: tuple[str, ...] = ()
    settle: str = ""
    rule: str = "paired"
    fail_rule: str = "drop"
    alpha: float = 0.05
    policy_alpha: float = 0.05
    look: tuple[int, int] = (1, 1)
    tests: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return self.outcome.exit_code

    @property
    def passed(self) -> bool:
        return self.outcome is VerdictOutcome.PASS

    @property
    def failed(self) -> bool:
        return self.outcome is VerdictOutcome.FAIL

    @property
    def last_look(self) -> bool:
        return self.look[0] >= self.look[1]

    def failing(self) -> tuple[MetricVerdict, ...]:
        """The rows that made it fail."""
        return tuple(
            row
            for row in self.rows
            if row.outcome is VerdictOutcome.FAIL and row.role != "advisory" and row.arm != "waived"
        )

    def row(self, metric: str) -> MetricVerdict:
        """The row of a metric over all samples. Raises KeyError where there is none."""
        for row in self.rows:
            if row.metric == metric and row.slice is None and row.requirement is None:
                return row
        raise KeyError(metric)

    def required_mean_z(self) -> dict[str, float]:
        """Mean z of each required metric over all samples, for `rollback_target`."""
        return {
            row.metric: row.mean_z
            for row in self.rows
            if row.required and row.slice is None and row.mean_z is not None
        }

    def with_note(self, **notes: str) -> Verdict:
        """The same verdict with what its caller knows: run ids, who asked, what was spent."""
        return replace(self, notes={**self.notes, **notes})

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, in the published form (docs/verdict.schema.json)."""
        out = asdict(self)
        out["schema"] = SCHEMA_VERSION
        out["outcome"] = self.outcome.value
        out["exit_code"] = self.exit_code
        out["notes"] = dict(self.notes)
        out["rows"] = [_plain_row(row) for row in self.rows]
        for name in ("reasons", "look"):
            out[name] = list(out[name])
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`; what later versions added is ignored."""
        known = _known(cls, data)
        known["outcome"] = VerdictOutcome(data["outcome"])
        known["rows"] = tuple(_row_from(row) for row in data.get("rows", ()))
        known["reasons"] = tuple(data.get("reasons", ()))
        known["look"] = tuple(data.get("look", (1, 1)))
        return cls(**known)


def _plain_row(row: MetricVerdict) -> dict[str, Any]:
    out = asdict(row)
    out["name"] = row.name
    out["required"] = row.required
    out["outcome"] = row.outcome.value
    out["moved"] = [asdict(moved) for moved in row.moved]
    for name in ("interval", "relative_interval"):
        out[name] = list(out[name]) if out[name] is not None else None
    return out


def _row_from(data: Mapping[str, Any]) -> MetricVerdict:
    known = _known(MetricVerdict, data)
    known["outcome"] = VerdictOutcome(data["outcome"])
    known["moved"] = tuple(Moved(**_known(Moved, moved)) for moved in data.get("moved", ()))
    for name in ("interval", "relative_interval"):
        pair = data.get(name)
        known[name] = (pair[0], pair[1]) if pair is not None else None
    return MetricVerdict(**known)


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: data[f.name] for f in fields(kind) if f.name in data}
