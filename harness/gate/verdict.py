"""The verdict as plain data, which goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from harness.core.columns import columns
from harness.core.format import number
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
    """One of the samples that moved most: both values, and z > 0 where it is worse than allowed."""

    id: str
    z: float
    anchor: float
    candidate: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one metric: both values, the change, and how much evidence.

    anchor, candidate   values in the metric's own unit
    change              candidate − anchor in that unit; `interval` is two-sided at `level`
    relative            change as a share of the anchor; None where that means nothing
    n, clusters         samples (responses for a requirement), and independent groups of them
    moved               the ten samples that moved most
    """

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
    n: int = 0
    clusters: int = 0
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowed:
    """What was allowed: a change from the anchor, or a bound on the candidate alone.

    margin, floor       δ and ε as they were used; `pass_margin` is the one for PASS
    change              the worst change that δ and ε allow, in the metric's unit, signed
    relative            the same as a share of the anchor
    limit               the bound of an absolute requirement, and `requirement` its name
    """

    margin: float | None = None
    pass_margin: float | None = None
    floor: float | None = None
    change: float | None = None
    relative: float | None = None
    requirement: str | None = None
    limit: float | None = None

    @property
    def widened(self) -> bool:
        """Whether PASS takes a wider margin than FAIL (`margin: auto`)."""
        return (self.pass_margin or 0.0) > (self.margin or 0.0)


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided, by which arm of the rule, and the test behind it.

    mean_z              > 0: worse than allowed, in the unit of z (nats a document for perplexity)
    se, t, df           of mean_z
    p_worse             one-sided p of "worse than the margin allows", unadjusted
    p_drop              of "any drop at all", unadjusted
    p_within            of "within the margin", unadjusted
    p_adjusted          Holm's value of the arm that failed, else the smaller of both arms
    guarded             few samples differ, so PASS had to survive one more at the worst value
    needed              samples with which PASS would come in 80%, if nothing really changed
    false_alarm         how often comparing the plain means fails an unchanged model (`rule: point`)
    reason              why there is no evidence, or why the metric is waived
    """

    outcome: VerdictOutcome
    arm: Arm
    mean_z: float | None = None
    se: float | None = None
    t: float | None = None
    df: float | None = None
    p_worse: float | None = None
    p_drop: float | None = None
    p_within: float | None = None
    p_adjusted: float | None = None
    guarded: bool = False
    needed: int | None = None
    false_alarm: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One row: one metric, one slice of it, or one absolute requirement."""

    metric: str
    role: Role
    decided: Decided
    measured: Measured = Measured()
    allowed: Allowed = Allowed()
    slice: str | None = None

    @property
    def outcome(self) -> VerdictOutcome:
        return self.decided.outcome

    @property
    def required(self) -> bool:
        return self.role == "required"

    @property
    def waived(self) -> bool:
        return self.decided.arm == "waived"

    @property
    def binding(self) -> bool:
        """Whether it takes part in the verdict: neither advisory nor waived."""
        return self.role != "advisory" and not self.waived

    @property
    def enough(self) -> bool:
        """Whether an unchanged candidate would pass in 80% with this much evidence."""
        return 0 < (self.decided.needed or 0) <= self.measured.n

    @property
    def name(self) -> str:
        """`intents/json_match`, with `[zh]` behind it for a slice, or the requirement."""
        label = f"{self.metric}[{self.slice}]" if self.slice is not None else self.metric
        named = self.allowed.requirement
        return f"{label} {named}" if named else label


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

    def __str__(self) -> str:
        """The headline, the rows as a table in each metric's own unit, and what else to know."""
        more = [said for said in (*self.reasons, self.settle) if said and said not in self.headline]
        parts = [self.headline, "\n".join(_table(self)), "\n".join(more)]
        return "\n\n".join(part for part in parts if part)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows where a cell ends with a verdict."""
        printer.text(str(self))

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
    def level(self) -> float:
        """Confidence of the rows' intervals."""
        return self.rows[0].measured.level if self.rows else 0.95

    @property
    def last_look(self) -> bool:
        return self.look[0] >= self.look[1]

    def failing(self) -> tuple[MetricVerdict, ...]:
        """The rows that made it fail."""
        return tuple(row for row in self.rows if row.outcome is VerdictOutcome.FAIL and row.binding)

    def row(self, metric: str) -> MetricVerdict:
        """The row of a metric over all samples. Raises KeyError where there is none."""
        for row in self.rows:
            if row.metric == metric and row.slice is None and row.allowed.requirement is None:
                return row
        raise KeyError(metric)

    def required_mean_z(self) -> dict[str, float]:
        """Mean z of each required metric over all samples, for `rollback_target`."""
        return {
            row.metric: row.decided.mean_z
            for row in self.rows
            if row.required and row.slice is None and row.decided.mean_z is not None
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


def _table(verdict: Verdict) -> list[str]:
    if not verdict.rows:
        return []
    head = ("metric", "anchor", "candidate", f"change [{verdict.level:.0%}]", "allowed", "verdict")
    lines = [head]
    for row in verdict.rows:
        found, allowed = row.measured, row.allowed
        interval = ", ".join(number(bound, signed=True) for bound in found.interval or ())
        change = number(found.change, signed=True) + (f" [{interval}]" if interval else "")
        most = number(allowed.change, signed=True)
        lines.append(
            (
                row.name,
                number(found.anchor),
                number(found.candidate),
                change,
                most if allowed.limit is None else number(allowed.limit),
                f"({row.outcome})" if row.role == "advisory" else str(row.outcome),
            )
        )
    return columns(lines, right=(1, 2, 4))


_KEYS = (
    "metric", "role", "outcome", "arm", "slice", "direction", "scale", "form", "anchor",
    "candidate", "change", "interval", "relative", "relative_interval", "level", "margin",
    "pass_margin", "floor", "allowed", "allowed_relative", "mean_z", "se", "t", "df", "p_worse",
    "p_drop", "p_within", "p_adjusted", "guarded", "n", "clusters", "needed", "requirement",
    "limit", "false_alarm", "moved", "reason", "name", "required",
)  # fmt: skip
"""A row's keys in the JSON form, which is flat: readers and stored verdicts rely on it."""

_RENAMED = {"change": "allowed", "relative": "allowed_relative"}
"""Fields of Allowed whose own names are taken, in the flat form, by what was measured."""


def _plain_row(row: MetricVerdict) -> dict[str, Any]:
    allowed = asdict(row.allowed)
    out = {
        **asdict(row.measured),
        **{_RENAMED.get(name, name): value for name, value in allowed.items()},
        **asdict(row.decided),
        "metric": row.metric,
        "role": row.role,
        "slice": row.slice,
        "name": row.name,
        "required": row.required,
        "outcome": row.outcome.value,
    }
    out["moved"] = list(out["moved"])
    for name in ("interval", "relative_interval"):
        out[name] = list(out[name]) if out[name] is not None else None
    return {key: out[key] for key in _KEYS}


def _row_from(data: Mapping[str, Any]) -> MetricVerdict:
    measured, decided = _known(Measured, data), _known(Decided, data)
    measured["moved"] = tuple(Moved(**_known(Moved, moved)) for moved in data.get("moved", ()))
    for name in ("interval", "relative_interval"):
        pair = data.get(name)
        measured[name] = (pair[0], pair[1]) if pair is not None else None
    decided["outcome"] = VerdictOutcome(data["outcome"])
    flat = {f.name: _RENAMED.get(f.name, f.name) for f in fields(Allowed)}
    allowed = {name: data[key] for name, key in flat.items() if key in data}
    return MetricVerdict(
        metric=data["metric"],
        role=data["role"],
        slice=data.get("slice"),
        measured=Measured(**measured),
        allowed=Allowed(**allowed),
        decided=Decided(**decided),
    )


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: data[f.name] for f in fields(kind) if f.name in data}
