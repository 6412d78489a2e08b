"""Two stored runs with one metric of every form, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from harness.store.store import Store

SAMPLES = 60
RESPONSES = 3
Draw = Callable[[np.random.Generator, float], tuple[float, list[float] | None]]

_SHARE = {"direction": "higher", "scale": "ratio", "unit": "share", "low": 0.0, "high": 1.0}
DECLARED: dict[str, dict[str, Any]] = {
    "mean": {**_SHARE, "form": "mean"},
    "ceiling": {**_SHARE, "form": "mean"},
    "toxicity": {**_SHARE, "form": "mean", "direction": "lower"},
    "reward": {
        **_SHARE,
        "form": "mean",
        "scale": "interval",
        "unit": "points",
        "low": None,
        "high": None,
    },
    "perplexity": {
        **_SHARE,
        "form": "perplexity",
        "direction": "lower",
        "unit": "perplexity per token",
        "low": 1.0,
        "high": None,
    },
    "group": {**_SHARE, "form": "group", "direction": "lower"},
    "pass_at_k": {**_SHARE, "form": "pass_at_k", "signature": "pass_at_k|v:1|k:2"},
    "corpus": {**_SHARE, "form": "corpus", "aggregate": "ratio"},
    "quantile": {
        **_SHARE,
        "form": "quantile",
        "direction": "lower",
        "unit": "seconds",
        "high": None,
        "aggregate": "0.5",
    },
    "winshare": {**_SHARE, "form": "winshare"},
}
"""Metric -> what it says of itself in the protocol of the task `t`."""

_ONCE = ("perplexity", "group", "pass_at_k", "winshare")
"""Metrics with one score a sample, whatever the number of its responses."""


def _pass_at_2(rng: np.random.Generator, worse: float) -> tuple[float, list[float]]:
    right = int(rng.binomial(8, 0.6 - worse))
    return 1 - (8 - right) * (7 - right) / 56, [8.0, float(right)]


def _corpus(rng: np.random.Generator, worse: float) -> tuple[float, list[float]]:
    total = int(rng.integers(3, 60))
    hits = int(rng.binomial(total, 0.7 - worse))
    return hits / total, [float(hits), float(total)]


def _perplexity(rng: np.random.Generator, worse: float) -> tuple[float, list[float]]:
    # The anchor's tokens are the candidate's too: they are drawn before anything depends on it.
    tokens = float(rng.integers(5, 200))
    nats = tokens * float(rng.normal(2.0 + worse, 0.3))
    return float(np.exp(nats / tokens)), [nats, tokens]


_DRAWS: Mapping[str, Draw] = {
    "mean": lambda rng, worse: (float(rng.random() < 0.8 - worse), None),
    "ceiling": lambda rng, worse: (1.0, None),
    "toxicity": lambda rng, worse: (float(rng.beta(2 + 20 * worse, 8)), None),
    "reward": lambda rng, worse: (float(rng.normal(-worse, 2)), None),
    "perplexity": _perplexity,
    "group": lambda rng, worse: (float(rng.beta(4, 6)), None),
    "pass_at_k": _pass_at_2,
    "corpus": _corpus,
    "quantile": lambda rng, worse: (float(rng.lognormal(worse, 0.5)), None),
    "winshare": lambda rng, worse: (float(rng.choice([0.0, 0.5, 1.0])), None),
}


def write_runs(store: Store, seed: int, *, clustered: bool) -> tuple[str, str]:
    """The ids of an anchor and of a slightly worse candidate. Three samples share a cluster."""
    ids = f"a{seed}{clustered:d}", f"c{seed}{clustered:d}"
    for run_id, worse in zip(ids, (0.0, 0.05), strict=True):
        store.append("runs", [_run(run_id)])
        store.append("scores", list(_scores(run_id, worse, seed, clustered)))
    return ids


def _run(run_id: str) -> dict[str, Any]:
    metrics = {
        name: {"signature": f"{name}|v:1", "aggregate": None, **says}
        for name, says in DECLARED.items()
    }
    return {
        "run_id": run_id,
        "model": f"model {run_id}",
        "model_digest": run_id,
        "suite": "forms",
        "suite_path": "forms.yaml",
        "suite_digest": "0",
        "seed": 0,
        "draw": 0,
        "protocol": {"t": {"data": "d", "metrics": metrics}},
        "subject": {},
        "provenance": {},
    }


def _scores(run_id: str, worse: float, seed: int, clustered: bool) -> Iterator[dict[str, Any]]:
    for number, metric in enumerate(DECLARED):
        for sample in range(SAMPLES):
            # A cluster's samples lean the same way, so that ignoring clusters would show.
            lean = np.random.default_rng([seed, number, sample // 3]).normal(0, 0.1)
            moved = worse + (abs(lean) if clustered and worse else 0.0)
            for response in range(1 if metric in _ONCE else RESPONSES):
                rng = np.random.default_rng([seed, number, sample, response])
                value, stats = _DRAWS[metric](rng, moved)
                yield {
                    "run_id": run_id,
                    "task": "t",
                    "metric": metric,
                    "sample_id": f"s{sample:03d}",
                    "response_index": None if metric in _ONCE else response,
                    "draw": 0,
                    "outcome": "scored",
                    "value": value,
                    "stats": stats,
                    "cluster": f"k{sample // 3}" if clustered else None,
                    "signature": f"{metric}|v:1",
                }
