"""One metric's scores of one run, as arrays that the gate compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.core.types import Direction

Slices = Mapping[str, str] | Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class MetricScores:
    """The scores of one run in one metric.

    values      sample id -> value in the metric's unit, averaged over the sample's K responses
    direction   whether larger is better
    scale       `ratio` has a true zero and takes a relative margin; `interval` has none
    form        how samples become the metric's value (harness.core.types.Form)
    weights     sample id -> weight; the metric's value is the weighted mean
    variance    sample id -> variance of that sample's value over fresh responses
    stats       sample id -> sufficient statistics: (nll in nats, tokens, …) for perplexity,
                (n, c) for pass_at_k, counts for corpus, the responses' values for quantile
    clusters    sample id -> cluster; samples of one cluster aren't independent
    worst, best the ends of the metric's range, where it has them
    slices      sample id -> label, or field -> (sample id -> label): for `by:`
    rates       sample id -> share of its responses over the metric's threshold: `rate_at_most`
    responses   K, responses per sample
    errors      samples that have no value because an answer or the metric failed; `total` is the
                number of samples asked, `lost` the errors that were the sandbox's or a server's
    aggregate   the name of the function that makes a corpus value of summed stats; for a quantile
                its share, such as "0.95"
    unit        of the values, in words
    timed       it measures the machine as well, so only interleaved rounds can be compared
    summed      each value is of many samples already, so that none hides a rare event
    """

    values: Mapping[str, float]
    direction: Direction = "higher"
    scale: Literal["ratio", "interval"] = "ratio"
    form: str = "mean"
    weights: Mapping[str, float] | None = None
    variance: Mapping[str, float] | None = None
    stats: Mapping[str, tuple[float, ...]] | None = None
    clusters: Mapping[str, str] | None = None
    worst: float | None = None
    best: float | None = field(default=None, kw_only=True)
    slices: Slices | None = field(default=None, kw_only=True)
    rates: Mapping[str, float] | None = field(default=None, kw_only=True)
    responses: int = field(default=1, kw_only=True)
    errors: int = field(default=0, kw_only=True)
    lost: int = field(default=0, kw_only=True)
    total: int | None = field(default=None, kw_only=True)
    aggregate: str | None = field(default=None, kw_only=True)
    unit: str = field(default="", kw_only=True)
    timed: bool = field(default=False, kw_only=True)
    summed: bool = field(default=False, kw_only=True)

    def labels(self, by: str) -> Mapping[str, str] | None:
        """The slice of each sample by that field, or None where the run doesn't say."""
        if self.slices is None:
            return None
        nested = self.slices.get(by)
        if isinstance(nested, Mapping):
            return nested
        plain = {k: v for k, v in self.slices.items() if isinstance(v, str)}
        return plain or None

    @property
    def error_share(self) -> float:
        """Share of the samples asked that are errors, 0 to 1."""
        total = self.total if self.total is not None else len(self.values) + self.errors
        return self.errors / total if total else 0.0
