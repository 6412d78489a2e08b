"""A line that serves conversations, and what a look finds: for the tests of `check`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from harness.store.store import Store
from harness.watch.monitor.policy import WatchPolicy
from harness.watch.monitor.verdict import WatchVerdict

LINE = "bot"
START = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = WatchPolicy(conversations=300, settle_s=60, signals={"toxicity": False})
Promote = Callable[[str], str]


def serve(
    store: Store,
    digest: str | None,
    begin: datetime,
    n: int,
    *,
    seed: int,
    ends: float = 0.8,
    every_s: float = 30.0,
    **more: Any,
) -> datetime:
    """`n` conversations of one answer each, `every_s` apart; returns when the last one came."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, well in enumerate(rng.random(n) < ends):
        at = begin + timedelta(seconds=every_s * i)
        row = {
            "observation_id": f"{seed}-{i}",
            "line": LINE,
            "model_digest": digest,
            "prompt": "What time is it?",
            "response": "It is noon.",
            "latency_s": float(rng.gamma(4, 0.25)),
            "output_tokens": 12,
            "outcome": "completed" if well else "abandoned",
            "observed_at": at,
            "received_at": at,
        }
        rows.append(row | {k: v(i) if callable(v) else v for k, v in more.items()})
    store.append("observations", rows)
    return rows[-1]["observed_at"]


def signal(verdict: WatchVerdict, name: str) -> Any:
    return next(s for s in verdict.signals if s.signal == name)


def later(at: datetime) -> datetime:
    return at + timedelta(minutes=5)
