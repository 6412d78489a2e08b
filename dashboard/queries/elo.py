"""Elo of many runs as the charts draw it, beside one anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log10
from typing import Any

from dashboard.queries.measures import Allowance
from harness.comparison.elo_ratings import UNIT, ratings
from harness.core.protocol import MetricName
from harness.core.types import Row
from harness.metrics.elo import ELO
from harness.statistics.intervals import Estimate
from harness.store.store import Store

__all__ = ["UNIT", "anchor_of_training", "as_points", "is_elo", "points"]


def is_elo(metric: str) -> bool:
    """Whether a `task/metric` is rated in pairs: its value says nothing without an anchor."""
    return MetricName.parse(metric).metric == ELO


def points(
    store: Store,
    protocol: Mapping[str, Any],
    metric: str,
    anchor: str,
    runs: Sequence[tuple[str, str]],
) -> dict[tuple[str, str], Estimate]:
    """(run, `task/elo`) -> its points, the `anchor` (a model's digest) 1000; of those `runs` (id,
    model's digest) that a chain of pairs leads to. One fit for all of them.
    """
    rated = ratings(store, protocol, MetricName.parse(metric).task, anchor)
    return {
        (run, metric): rated[model].estimate
        for run, model in runs
        if model in rated and (model == anchor or rated[model].pairs)
    }


def as_points(allowed: Allowance) -> Allowance:
    """What a verdict allowed of the win share, as what that is in points."""
    share = 0.5 - min(abs(allowed.change), 0.499)
    return replace(allowed, scale="interval", margin=None, change=400 * log10(share / (1 - share)))


def anchor_of_training(runs: Sequence[Row]) -> str | None:
    """The model's digest of a training's first checkpoint, which is its anchor."""
    first = next((row for row in runs if row["step"] == 0), None)
    return None if first is None else str(first["model_digest"])
