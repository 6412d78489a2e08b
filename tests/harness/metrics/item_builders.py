"""What a metric is given: answers to one sample."""

from __future__ import annotations

from harness.core.types import Response, Sample
from harness.metrics.base import MetricItem


def item(*texts, references=(), latency_s=None, token_ids=()):
    sample = Sample("s", "t", references=tuple(references))
    return MetricItem(
        sample,
        tuple(
            Response(
                "k", "s", "t", "generation", i, 0, text, latency_s=latency_s, token_ids=token_ids
            )
            for i, text in enumerate(texts)
        ),
    )
