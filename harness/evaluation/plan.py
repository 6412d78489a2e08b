"""Plans a run: which samples need which answers, and the cache key of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.backends.base import Candidate
from harness.core.digests import digest_of
from harness.core.types import Response, ResponseKind, Sample
from harness.suite.suite import Suite, Task


@dataclass(frozen=True, slots=True)
class Extent:
    """How much evidence: `responses` times K answers where answers are sampled, and a share
    `reserve` (0 to 1) of the reserve.

    With `gated_only`, tasks without a metric that can stop a candidate stay at their first look.
    """

    responses: int = 1
    reserve: float = 0.0
    gated_only: bool = False

    def of(self, suite: Suite, task: Task) -> Extent:
        """This extent as it applies to one task."""
        return self if not self.gated_only or suite.is_gated(task) else Extent()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer that a run needs, with the key under which it is cached.

    `index` counts a sample's answers from 0 (its references, for kind `reference`); `draw` is 0
    unless a fresh draw was asked for.
    """

    key: str
    task: Task
    sample: Sample
    kind: ResponseKind
    index: int
    draw: int


def empty_response(want: Wanted) -> Response:
    """The response that is wanted, still without an answer."""
    return Response(
        key=want.key,
        sample_id=want.sample.id,
        task=want.task.name,
        kind=want.kind,
        index=want.index,
        draw=want.draw,
        text="",
    )


def limited(samples: tuple[Sample, ...], limit: int | None, seed: int) -> tuple[Sample, ...]:
    """At most `limit` samples, chosen at random by `seed`, in their own order.

    Chosen by a digest of each id, so that a larger limit takes the same ones and more.
    """
    if limit is None or limit >= len(samples):
        return samples
    ranked = sorted(samples, key=lambda sample: digest_of(["limit", seed, sample.task, sample.id]))
    chosen = {sample.id for sample in ranked[:limit]}
    return tuple(sample for sample in samples if sample.id in chosen)


def samples_in(
    suite: Suite, task: Task, limit: int | None, seed: int, extent: Extent
) -> tuple[Sample, ...]:
    """The samples that an extent takes: all but the reserve (at most `limit` of them), then the
    first part of the reserve, so that a larger share extends a smaller one.
    """
    first = tuple(sample for sample in task.samples if not sample.reserve)
    reserve = [sample for sample in task.samples if sample.reserve]
    taken = round(len(reserve) * min(max(extent.of(suite, task).reserve, 0.0), 1.0))
    return (*limited(first, limit, seed), *reserve[:taken])


@dataclass(frozen=True, slots=True)
class Scoring:
    """One model on one suite, and everything else that decides which answers a run needs.

    `seed` and `limit` choose the samples (`seed` the random answers too), another `draw` means
    fresh answers to the same samples, and `extent` says how much evidence.
    """

    candidate: Candidate
    suite: Suite
    seed: int = 0
    limit: int | None = None
    draw: int = 0
    extent: Extent = Extent()

    def answers(self) -> Iterator[Wanted]:
        """Every answer that the run needs, in a fixed order."""
        for task in self.suite.tasks:
            extent = self.extent.of(self.suite, task)
            for kind in task.kinds:
                sampled = kind == "generation" and task.settings.temperature > 0
                count = task.responses * (extent.responses if sampled else 1)
                for sample in samples_in(self.suite, task, self.limit, self.seed, self.extent):
                    base = self._asked(task, sample, kind)
                    for index in range(count if kind != "reference" else len(sample.references)):
                        # The key holds what an answer depends on, and nothing else, so that runs
                        # share answers. Neither seed nor draw changes a greedy one.
                        chance = [self.seed, index, self.draw] if sampled else [index]
                        key = digest_of([base, [sample.id, *chance]])
                        draw = self.draw if sampled else 0
                        yield Wanted(key, task, sample, kind, index, draw)

    def _asked(self, task: Task, sample: Sample, kind: ResponseKind) -> list[Any]:
        """All that an answer depends on but chance: the model, how it runs, what it is asked."""
        how = [sample.options.stored] if sample.options.stored else []
        asked = {
            "generation": [list(sample.prompt), task.protocol["generate"], *how],
            "reference": [list(sample.prompt), sample.references, *how],
            "text": [sample.text],
        }[kind]
        return [self.candidate.digest, dict(self.candidate.subject), task.name, kind, asked]


def seed_of(seed: int, task: str, sample_id: str, index: int, draw: int) -> int:
    """The 64-bit seed of one response. It depends on what the response is, not on its batch, so a
    run that is resumed or extended draws the same answers.
    """
    text = f"{seed}|{task}|{sample_id}|{index}|{draw}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
