"""Latency: seconds to an answer, and tokens per second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_unscored


class Latency(NamedTuple):
    """Seconds; quantiles by linear interpolation. Lower is better."""

    mean: float
    p50: float
    p95: float
    p99: float


def latency(seconds: Sequence[float]) -> Latency:
    """Mean and quantiles of `seconds`. Raises UserError for no value or a negative one."""
    import numpy as np

    if not seconds or min(seconds) < 0:
        raise UserError("latency needs at least one duration, and none below 0")
    p50, p95, p99 = np.quantile(np.asarray(seconds, dtype=np.float64), [0.5, 0.95, 0.99]).tolist()
    return Latency(float(np.mean(seconds)), p50, p95, p99)


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """Mean seconds per response, or mean tokens per second; with `quantile` that quantile of all.

    `of: seconds` from the request to the last token; `of: tokens_per_second` over the same time;
    `of: first_token`, seconds to the first one, where the backend measures it. `quantile: 0.95`
    makes the metric `latency_p95`. Timings depend on other requests and on what else the machine
    does, so they are advisory unless the rounds of both runs were interleaved. An answer that says
    nothing is unscored, however soon it came.
    """

    of: Literal["seconds", "tokens_per_second", "first_token"] = "seconds"
    quantile: float | None = None

    def __post_init__(self) -> None:
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise UserError(
                f"a quantile lies between 0 and 1, not at {self.quantile:g}",
                field="quantile",
                hint="0.95 is the time that 95% of the answers take at most",
            )

    @property
    def spec(self) -> MetricSpec:
        q = self.quantile
        return MetricSpec(
            "latency" if q is None else f"latency_p{q * 100:g}",
            "higher" if self.of == "tokens_per_second" else "lower",
            form="mean" if q is None else "quantile",
            aggregate=None if q is None else f"{q:g}",
            unit="tokens per second" if self.of == "tokens_per_second" else "seconds",
            high=None,
            version="2",
            options=(("of", self.of),),
            timed=True,
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value, silent=silent_unscored())

    def _value(self, _: Sample, response: Response) -> Outcome:
        if self.of == "first_token":
            if response.first_token_s is None:
                return Evidence.unscored(None, "no token, or the backend measured no time to it")
            return response.first_token_s
        if response.latency_s is None:
            return Evidence.unscored(None, "the backend measured no latency")
        if self.of == "seconds":
            return response.latency_s
        if response.latency_s <= 0 or not response.token_ids:
            return Evidence.unscored(None, "no token, or no time")
        return len(response.token_ids) / response.latency_s
