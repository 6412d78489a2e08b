"""The rule for the best checkpoint: significantly better, on all independent evidence there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.comparison.looks import both_at
from harness.core.types import Run
from harness.evaluation.plan import Extent
from harness.gate.improvement import Improvement, improved
from harness.gate.policy import GatePolicy
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

SCREEN = 0.2
"""Who isn't better than the best checkpoint at this level on the first look is not scored further:
it would hardly be proven better on all evidence."""

COUNTED_IN = ", the reserve counted in"


def proven(first: npt.ArrayLike, whole: npt.ArrayLike, *, alpha: float) -> npt.NDArray[np.bool_]:
    """Which metrics are proven better, shape (..., M), from one-sided p-values of "not better",
    shape (..., M) each and after Holm over the M required metrics: of the first look's evidence,
    and of all evidence.

    The test is the second alone, so at most `alpha` of the checkpoints that are better nowhere are
    called better. The first look only decides whether it is made: it can make fewer such errors,
    never more. With each checkpoint's share of a training's alpha that is the promise for the
    training, by a union bound.
    """
    screened = np.asarray(first, dtype=float).min(-1, keepdims=True) <= SCREEN
    return np.asarray((np.asarray(whole, dtype=float) <= alpha) & screened)


@dataclass(frozen=True, slots=True)
class BestCheckpointRule:
    """The rule for one training. `policy` is the suite's, whose alpha is the whole training's;
    `checkpoints` how many of them are planned over all stages, retries included, and share it.
    `first` is the evidence of the first look, `whole` all there will be, the reserve included.
    """

    store: Store
    suite: Suite
    policy: GatePolicy
    checkpoints: int
    first: Extent
    whole: Extent

    def proven_better(self, best_checkpoint: Run, extend: Callable[[Extent], Run]) -> str | None:
        """On what the candidate is better than the best checkpoint, in words; None where it isn't.

        `extend` scores the candidate as far as is asked. The first look's samples and the reserve
        are one test: each by itself would ask for the same proof twice. What a training was told
        of its checkpoints doesn't bias it, for the samples were never learned from, and a best
        checkpoint that owes its place to luck on them is only the harder to beat.
        """
        first = self._compared(best_checkpoint, extend(self.first), self.first, SCREEN)
        if not first.better:
            return None
        # A best checkpoint is an opponent from now on, so it is scored as far as any look will go.
        share = self.policy.alpha / self.checkpoints
        whole = self._compared(best_checkpoint, extend(self.whole), self.whole, share)
        p = ([one.p[name] for name in whole.p] for one in (first, whole))
        better = [n for n, is_ in zip(whole.p, proven(*p, alpha=share), strict=True) if is_]
        if whole.failed or not better:
            return None
        reserves = any(sample.reserve for task in self.suite.tasks for sample in task.samples)
        return f"{' and '.join(better)}{COUNTED_IN if reserves else ''}"

    def _compared(self, best: Run, run: Run, extent: Extent, alpha: float) -> Improvement:
        """How far `run` is ahead of the best checkpoint on the evidence of an extent."""
        sides = both_at(self.store, best, run, self.suite, self.policy, extent)
        return improved(*sides, self.policy, alpha=alpha, today=runs.now().date())
