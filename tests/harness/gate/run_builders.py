"""Runs as a user has them, made from a few numbers: for the tests of the gate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.core.types import VerdictOutcome
from harness.gate.metric_scores import MetricScores

PASS, FAIL = VerdictOutcome.PASS, VerdictOutcome.FAIL
INCONCLUSIVE, INCOMPARABLE = VerdictOutcome.INCONCLUSIVE, VerdictOutcome.INCOMPARABLE
MATCH = "intents/json_match"


def scores(values: Any, **settings: Any) -> MetricScores:
    bounded = settings.get("direction") != "lower" and settings.get("scale") != "interval"
    settings.setdefault("worst", 0.0 if bounded else None)
    return MetricScores({f"s{i:05d}": float(v) for i, v in enumerate(values)}, **settings)


def right(count: int, of: int) -> MetricScores:
    """The first `count` samples right, the others wrong."""
    return scores([i < count for i in range(of)])


def documents(nll_per_token: Any, tokens: Any, own_tokens: Any = None) -> MetricScores:
    nll = np.asarray(nll_per_token) * np.asarray(tokens)
    counted = tokens if own_tokens is None else own_tokens
    stats = {
        f"d{i}": (float(x), float(t), 0.0, 0.0)
        for i, (x, t) in enumerate(zip(nll, counted, strict=True))
    }
    values = {key: math.exp(x / t) for key, (x, t, *_) in stats.items()}
    return MetricScores(values, "lower", form="perplexity", stats=stats, worst=None)


def noisy(level: float, n: int, seed: int, **settings: Any) -> MetricScores:
    return scores(np.random.default_rng(seed).random(n) < level, **settings)
