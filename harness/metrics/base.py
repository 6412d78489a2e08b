"""A metric's interface: a declaration, and one call over items to score.

A metric file holds two things: a plain function that stands alone (usable from a notebook in
one line) and a small object with a `spec` and a `score` method, which the runner calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from harness.core.types import LOST, Direction, Form, Response, ResponseKind, Sample, ScoreOutcome

_UNCERTAINTY: dict[Form, str] = {
    "mean": "Student's t over samples, each the mean of its responses",
    "perplexity": "Student's t over documents, in nats at the anchor's token counts",
    "group": "Student's t over samples, each the mean of fixed groups of K responses",
    "pass_at_k": "Student's t over problems, or the variance over tries of fixed problems",
    "corpus": "the jackknife over samples of the value of summed statistics",
    "quantile": "the bootstrap over samples, in its exact form",
    "winshare": "Student's t over samples, one-sample against one half",
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric declares about itself.

    name        as it is written in a suite
    direction   whether larger is better
    scale       `ratio` has a true zero, so a relative margin makes sense; `interval` has none
    form        see `Form`
    unit        of the value, in words ("share", "nats per token", "points 0-100")
    low, high   the range; None where it is unbounded
    needs       which kind of response it is computed from
    per         one value per `response`, or one per `sample` from all its responses
    stats       names of the sufficient statistics in `Score.stats`, in order
    version     raised whenever a value could change; part of the protocol
    options     what the suite set, as it enters the signature
    aggregate   for the form `corpus`: the function that makes the value of summed statistics,
                a name in `statistics.jackknife.AGGREGATES`; for `quantile` its share, "0.95"
    timed       it measures the machine too: advisory unless the runs' rounds were interleaved
    reads       fields of the data's rows that answers are compared with beside the references
                (hidden tests): part of the protocol, where a row has them
    """

    name: str
    direction: Direction
    scale: Literal["ratio", "interval"] = "ratio"
    form: Form = "mean"
    unit: str = "share"
    low: float | None = 0.0
    high: float | None = 1.0
    needs: ResponseKind = "generation"
    per: Literal["response", "sample"] = "response"
    stats: tuple[str, ...] = ()
    version: str = "1"
    options: tuple[tuple[str, str], ...] = ()
    aggregate: str | None = None
    timed: bool = False
    reads: tuple[str, ...] = ()

    @property
    def worst(self) -> float | None:
        """The worst value there is, where the range is bounded on that side."""
        return self.low if self.direction == "higher" else self.high

    @property
    def uncertainty(self) -> str:
        """How the error of the metric's value is computed; samples (or clusters) are the unit."""
        return _UNCERTAINTY[self.form]

    @property
    def signature(self) -> str:
        """`rouge_l|v:1|tok:zh`: enough to reproduce a number from its own label."""
        options = "".join(f"|{key}:{value}" for key, value in self.options)
        return f"{self.name}|v:{self.version}{options}"


def option_of(signature: str, name: str) -> str:
    """An option's value in a signature: `k` in `pass_at_k|v:1|k:5` is "5"; "" where it has none."""
    found = (part.partition(":") for part in signature.split("|")[1:])
    return next((value for key, _, value in found if key == name), "")


@dataclass(frozen=True, slots=True)
class MetricItem:
    """One sample with the responses that the metric needs, in the order of their index."""

    sample: Sample
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A metric's result for one response, or for one sample where `response_index` is None.

    `value` is None where there is none; `outcome` and `reason` then say why. `stats` are the
    sufficient statistics that the spec names.
    """

    response_index: int | None
    value: float | None
    outcome: ScoreOutcome = ScoreOutcome.SCORED
    reason: str | None = None
    stats: tuple[float, ...] = ()

    @classmethod
    def unscored(cls, response_index: int | None, reason: str) -> Evidence:
        return cls(response_index, None, ScoreOutcome.UNSCORED, reason)

    @classmethod
    def error(cls, response_index: int | None, reason: str) -> Evidence:
        return cls(response_index, None, ScoreOutcome.ERROR, reason)

    @classmethod
    def lost(cls, response_index: int | None, reason: str) -> Evidence:
        """An error of the sandbox or a server, which says nothing about the model."""
        return cls.error(response_index, LOST + reason)


@runtime_checkable
class Fitted(Protocol):
    """A metric that must know all samples of its task to read one answer (their labels, say)."""

    def among(self, samples: Sequence[Sample]) -> Metric:
        """This metric for these samples. Called once, as the suite loads; raises UserError."""
        ...


@runtime_checkable
class Metric(Protocol):
    """What the runner calls: a declaration of the metric, and a method that scores items."""

    @property
    def spec(self) -> MetricSpec: ...

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        """Score `items` together (metrics with a model batch inside).

        Returns one list per item, in order: an `Evidence` per response for `per="response"`,
        one with `response_index=None` for `per="sample"`. A response that carries an error gets
        an `error` evidence; a value that cannot be computed is `unscored` with its reason. Never
        raises because of a model's answer; never returns NaN.
        """
        ...
