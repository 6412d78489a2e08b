"""Offers a checkpoint of a finished stage to its line."""

from __future__ import annotations

from functools import cache

from harness.backends.base import Candidate
from harness.comparison.looks import decide_once
from harness.comparison.promotion import confirm
from harness.core.types import VerdictOutcome
from harness.models.resolve import resolve
from harness.registry.registry import Registry
from trainers.checkpoints.state import TrainingState
from trainers.config.precision import Machine
from trainers.loop.judge import Judging, candidate_of


def offer(judging: Judging, state: TrainingState, line: str) -> tuple[str, bool, bool]:
    """Offer the checkpoint that was chosen to `line`: its digest in the registry, whether it is
    promoted, and whether that is news.

    A line's first version stands on its verdict against checkpoint-0; a later one must pass
    against what is promoted, or be proven better, on fresh evidence.
    """
    step = state.to_offer
    judged = state.of(step)
    assert judged is not None
    registry = Registry(judging.workspace, judging.store)
    digest = registry.add(
        judging.folder.require(step),
        training_id=judging.training_id,
        step=step,
        run_id=judged.run_id,
    )
    promoted = registry.promoted(line)
    if promoted is not None and promoted.digest == digest:
        return digest, True, False
    if promoted is None:
        verdict_id, refused = _first(judging, state)
    else:
        verdict_id, refused = _later(judging, registry, digest, line)
    if refused:
        judging.reporter.say(f"Not promoted to {line}: {refused}")
        return digest, False, False
    registry.promote(
        line,
        digest,
        verdict_id=verdict_id,
        actor=f"training {judging.training_id}",
        reason=f"{_called(state)} of {judging.recipe.model.name}",
        run_id=judged.run_id,
        expect=promoted.digest if promoted is not None else None,
    )
    return digest, True, True


def _called(state: TrainingState) -> str:
    if state.to_offer == state.best_checkpoint:
        return f"the best checkpoint (step {state.to_offer})"
    return f"step {state.to_offer}, estimated ahead of the best checkpoint"


def _first(judging: Judging, state: TrainingState) -> tuple[str, str]:
    """The verdict that a line's first version stands on, and why it must not be promoted."""
    suite, step = judging.stage.suite, state.to_offer
    # The best checkpoint is proven better already. Any other was chosen among many by the evidence
    # that it is decided on here: at its share of alpha that is paid for.
    policy = suite.policy if step == state.best_checkpoint else judging.policy
    decision = decide_once(
        judging.store,
        "anchor",
        judging.run_of(state, 0),
        judging.run_of(state, step),
        suite,
        policy,
    )
    passed = decision.verdict.outcome is VerdictOutcome.PASS or decision.improvement
    return decision.id, "" if passed else decision.verdict.headline


def _later(judging: Judging, registry: Registry, digest: str, line: str) -> tuple[str, str]:
    """Decided once more on fresh answers, against what is promoted and the first version."""
    method, dtype = judging.run.method, judging.run.settled.scored
    device = Machine.here().device

    def opened(of: str) -> Candidate:
        files = resolve(str(registry.path(of)), judging.workspace)
        return candidate_of(
            judging.run,
            files,
            name=f"{line} {of[:12]}",
            open_=cache(lambda: method.backend(*method.load(files, dtype=dtype, device=device))),
        )

    found = confirm(
        registry,
        judging.store,
        line,
        digest,
        judging.stage.suite,
        opened,
        seed=judging.recipe.model.seed,
        progress=judging.reporter.progress,
    )
    return found.verdict_id, found.refused
