"""Chooses what a finished stage offers to its line: the best checkpoint that stands.

What is offered needn't be proven better than the best checkpoint: that it isn't says little where
few samples are left to prove it by. Offering claims nothing; the promotion decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.comparison.looks import both_at, evidence_at
from harness.core.types import Run
from harness.evaluation.plan import Extent
from harness.gate.choice import Estimate, estimates, in_order
from harness.store import runs
from trainers.checkpoints.state import TrainingState
from trainers.loop.judge import Judging


@dataclass(frozen=True, slots=True)
class Offered:
    """The checkpoint to offer (0: none), and why it is this one, in a sentence."""

    step: int
    why: str


def choose_offered(judging: Judging, state: TrainingState) -> Offered:
    """Of all checkpoints that stand and did not fail: those whose estimated harm against the best
    checkpoint is at most 0 on every required metric; of them the one with the greatest gain over
    all required metrics, in margins; the best checkpoint itself where none is ahead of it.

    All are estimated on the evidence of the first look, which each of them has. The one that is
    chosen is then scored as far as the best checkpoint was, and is not taken where it is behind on
    that: then the next is.
    """
    best = state.best_checkpoint
    opponent = judging.run_of(state, best)
    standing = {
        step: judging.run_of(state, step)
        for step, attempt in judging.folder.steps()
        if step not in (0, best) and _stands(state, step, attempt)
    }
    first = _estimates(judging, opponent, standing, judging.first)
    for step in in_order(first):
        run = _extended(judging, step) if _more_is_left(judging) else standing[step]
        whole = _estimates(judging, opponent, {step: run}, judging.whole)[step]
        if whole.ahead:
            return Offered(step, _why(step, best, whole))
    if best:
        return Offered(best, "the best checkpoint: no other that stands is estimated to be better")
    return Offered(0, "no checkpoint is estimated to be at least as good as checkpoint-0")


def _more_is_left(judging: Judging) -> bool:
    """Whether a first look leaves anything to score; else nothing has to be loaded for it."""
    samples = (sample for task in judging.stage.suite.tasks for sample in task.samples)
    return judging.whole.responses != judging.first.responses or any(s.reserve for s in samples)


def _stands(state: TrainingState, step: int, attempt: int) -> bool:
    judged = state.of(step)
    return judged is not None and judged.attempt == attempt


def _estimates(
    judging: Judging, opponent: Run, candidates: Mapping[int, Run], extent: Extent
) -> dict[int, Estimate]:
    suite, policy = judging.stage.suite, judging.policy
    store = judging.store
    return estimates(
        evidence_at(store, opponent, suite, policy, extent, whole=True),
        {
            step: both_at(store, opponent, run, suite, policy, extent)[1]
            for step, run in candidates.items()
        },
        policy,
        today=runs.now().date(),
    )


def _extended(judging: Judging, step: int) -> Run:
    """The checkpoint's run with all evidence; its weights are loaded where some of it is new."""
    method = judging.run.method
    with judging.candidate(step, lambda files: method.backend(*method.load(files))) as candidate:
        return judging.extend(candidate, step, judging.whole)


def _why(step: int, best: int, found: Estimate) -> str:
    gains = sorted(found.gains.items(), key=lambda each: -each[1])
    ahead = ", ".join(f"{name} by {gain:.1f}" for name, gain in gains if gain > 0)
    rival = f"the best checkpoint (step {best})" if best else "checkpoint-0"
    return (
        f"step {step}: it did not fail, is estimated no worse than {rival} on any required metric, "
        f"and is the furthest ahead of all such. In margins: {ahead}"
    )
