"""What identifies a run: protocol (must match), subject (is compared), provenance (warns)."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from harness.core.protocol import SAMPLING, MetricName, metrics_of
from harness.core.types import Fingerprint

LIBRARIES = ("ratchet-eval", "torch", "transformers", "tokenizers", "peft", "sacrebleu", "numpy")

MUST_MATCH = ("data", "prompt", "text", "reference", "generate", "reserve")
"""The fields of a task's protocol that two runs must share, besides each metric's signature."""


def provenance() -> dict[str, Any]:
    """Library versions and the machine: a difference warns, since it may move a score."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        # Tells one machine from another without naming it: bundles are committed and shared.
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:8],
        **{name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def protocol_differences(
    anchor: Fingerprint, candidate: Fingerprint, metrics: Sequence[str] | None = None
) -> list[str]:
    """Why two runs can't be compared: one line per field, empty where they can.

    `metrics` are the `task/metric` names that matter; None means all that the anchor has.
    """
    problems = []
    declared = [str(name) for name, _ in metrics_of(anchor.protocol)]
    names = [MetricName.parse(name) for name in (sorted(declared) if metrics is None else metrics)]
    for task in dict.fromkeys(name.task for name in names):
        a, c = anchor.protocol.get(task), candidate.protocol.get(task)
        if a is None or c is None:
            problems.append(
                f"{task}: the {'anchor' if a is None else 'candidate'} has no such task"
            )
            continue
        for field in MUST_MATCH:
            problems.extend(_differences(f"{task}.{field}", a.get(field), c.get(field)))
    for name in names:
        a, c = _signature(anchor, name), _signature(candidate, name)
        if a and c and a != c:
            problems.append(f"{name}: anchor computed by {a}, candidate by {c}")
    a, c = anchor.protocol.get(SAMPLING), candidate.protocol.get(SAMPLING)
    problems.extend(_differences("sampling", a, c))
    return problems


def _differences(place: str, a: Any, c: Any) -> Iterator[str]:
    """One line for each innermost field that differs."""
    if isinstance(a, Mapping) and isinstance(c, Mapping):
        for key in sorted(a.keys() | c.keys()):
            yield from _differences(f"{place}.{key}", a.get(key), c.get(key))
    elif a != c:
        yield f"{place}: anchor {_short(a)}, candidate {_short(c)}"


def part_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """`field: this -> that` for each field of a subject or provenance that differs."""
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield f"{key}: {a.get(key)} -> {b.get(key)}"


def _signature(fingerprint: Fingerprint, name: MetricName) -> str | None:
    declared = fingerprint.protocol.get(name.task, {}).get("metrics", {}).get(name.metric)
    return None if declared is None else declared["signature"]


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
