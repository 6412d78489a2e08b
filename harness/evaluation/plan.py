"""Plans a run: which samples need which answers, and the cache key of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.backends.base import Candidate
from harness.core.digests import digest_of
from harness.core.types import ResponseKind, Sample
from harness.suite.suite import Suite, Task


@dataclass(frozen=True, slots=True)
class Extent:
    """How much evidence: each sampled task's K times `responses`, and a share of the reserve.

    With `gated_only`, tasks that can stop nobody stay at their first look.
    """

    responses: int = 1
    reserve: float = 0.0
    gated_only: bool = False

    def of(self, suite: Suite, task: Task) -> Extent:
        """This extent as it applies to one task."""
        return self if not self.gated_only or suite.is_gated(task) else Extent()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer that a run needs, with the address under which it is cached."""

    key: str
    task: Task
    sample: Sample
    kind: ResponseKind
    index: int
    draw: int


def limited(samples: tuple[Sample, ...], limit: int | None, seed: int) -> tuple[Sample, ...]:
    """At most `limit` samples, a seeded sample of all rather than the first ones."""
    if limit is None or limit >= len(samples):
        return samples
    ranked = sorted(samples, key=lambda sample: digest_of(["limit", seed, sample.task, sample.id]))
    chosen = {sample.id for sample in ranked[:limit]}
    return tuple(sample for sample in samples if sample.id in chosen)


def samples_in(
    suite: Suite, task: Task, limit: int | None, seed: int, extent: Extent
) -> tuple[Sample, ...]:
    """The samples that an extent takes: all but the reserve, and then a share of the reserve."""
    first = tuple(sample for sample in task.samples if not sample.reserve)
    reserve = [sample for sample in task.samples if sample.reserve]
    taken = round(len(reserve) * min(max(extent.of(suite, task).reserve, 0.0), 1.0))
    return (*limited(first, limit, seed), *reserve[:taken])


def plan_answers(
    candidate: Candidate,
    suite: Suite,
    seed: int,
    limit: int | None,
    draw: int,
    extent: Extent,
) -> Iterator[Wanted]:
    """Every answer that the run needs, in a fixed order."""
    for task in suite.tasks:
        settings = task.protocol["generate"]
        for kind in task.kinds:
            sampled = kind == "generation" and task.settings.temperature > 0
            count = task.responses * (extent.of(suite, task).responses if sampled else 1)
            for sample in samples_in(suite, task, limit, seed, extent):
                asked = {
                    "generation": [list(sample.prompt), settings],
                    "reference": [list(sample.prompt), sample.references],
                    "text": [sample.text],
                }[kind]
                base = [candidate.digest, dict(candidate.subject), task.name, kind, asked]
                for index in range(count if kind != "reference" else len(sample.references)):
                    # A greedy answer has no randomness, so neither seed nor draw changes it.
                    chance = [sample.id, seed, index, draw] if sampled else [sample.id, index]
                    key = digest_of([base, chance])
                    yield Wanted(key, task, sample, kind, index, draw if sampled else 0)


def seed_of(seed: int, task: str, sample_id: str, index: int, draw: int) -> int:
    """The 64-bit seed of one response: the same whatever batch it is answered in."""
    text = f"{seed}|{task}|{sample_id}|{index}|{draw}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
