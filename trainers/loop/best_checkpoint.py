"""The rule for the best checkpoint: significantly better, and confirmed on the reserve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.comparison.evidence import metric_scores
from harness.core.types import Run
from harness.evaluation.plan import Extent
from harness.gate.improvement import Improvement, improved
from harness.gate.policy import GatePolicy
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite


@dataclass(frozen=True, slots=True)
class BestCheckpointRule:
    """The rule for one training. `policy` carries a checkpoint's share of alpha, the suite's own
    policy the whole of it; `first` is the evidence of the first look, `whole` all there will be.
    """

    store: Store
    suite: Suite
    policy: GatePolicy
    first: Extent
    whole: Extent

    def proven_better(self, best_checkpoint: Run, extend: Callable[[Extent], Run]) -> str | None:
        """On what the candidate is better than the best checkpoint, in words; None where it isn't.

        The claim is made on the first look's samples at the checkpoint's share of alpha, and
        confirmed at alpha on reserve samples, which took no part in choosing it: a lucky score
        would otherwise become the bar for all that follow. `extend` scores the candidate as far
        as is asked.
        """
        reserves = any(sample.reserve for task in self.suite.tasks for sample in task.samples)
        claim = self._improved(best_checkpoint, extend(self.first), self.policy, reserve=False)
        if not claim:
            return None
        # A best checkpoint is an opponent from now on, so it is scored as far as any look will go.
        run = extend(self.whole)
        if reserves:
            again = _only_these(self.suite.policy, self.suite, claim.better)
            if not self._improved(best_checkpoint, run, again, reserve=True):
                return None
        confirmed = ", confirmed on the reserve" if reserves else ""
        return f"{' and '.join(claim.better)}{confirmed}"

    def _improved(
        self, best_checkpoint: Run, run: Run, policy: GatePolicy, *, reserve: bool
    ) -> Improvement:
        """Whether `run` is proven better, on the reserve samples alone or on all the others."""
        only = {
            task.name: [sample.id for sample in task.samples if sample.reserve == reserve]
            for task in self.suite.tasks
            if not reserve or any(sample.reserve for sample in task.samples)
        }
        sides = [
            metric_scores(self.store, one, policy=policy, only=only)
            for one in (best_checkpoint, run)
        ]
        return improved(sides[0], sides[1], policy, today=runs.now().date())


def _only_these(policy: GatePolicy, suite: Suite, metrics: Sequence[str]) -> GatePolicy:
    """The policy with these metrics alone required: the claim that is to be confirmed."""
    roles = {
        name: policy.of(name).changed(required=name in metrics, advisory=name not in metrics)
        for name in suite.metric_names()
    }
    return policy.changed(metrics=roles)
