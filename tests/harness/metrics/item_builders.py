"""What a metric is given: answers to one sample, texts or programs."""

from __future__ import annotations

from harness.core.types import Response, Sample
from harness.metrics import get_metric
from harness.metrics.base import MetricItem

ADD = {
    "id": "add",
    "tests": "assert add(1, 2) == 3\nassert candidate(-1, 1) == 0\n",
    "entry_point": "add",
}
"""A problem: a function that adds."""


def item(*texts, references=(), latency_s=None, token_ids=(), **fields):
    sample = Sample("s", "t", references=tuple(references), fields=fields)
    return MetricItem(
        sample,
        tuple(
            Response(
                "k", "s", "t", "generation", i, 0, text, latency_s=latency_s, token_ids=token_ids
            )
            for i, text in enumerate(texts)
        ),
    )


def solved(*answers, **fields):
    """Answers to a problem: `ADD`, but for `fields`."""
    row = {**ADD, **fields}
    return MetricItem(
        Sample(str(row["id"]), "t", fields=row),
        tuple(
            Response(f"k{i}", str(row["id"]), "t", "generation", i, 0, text)
            for i, text in enumerate(answers)
        ),
    )


def judged(*answers, options=None, **fields):
    """What `code_tests` found of each answer."""
    return get_metric("code_tests", options or {}).score([solved(*answers, **fields)])[0]
