"""Picks one of many candidates: chosen on one half of the evidence, decided on the other.

Who takes the best of many and judges it by the scores that it was chosen by takes the luckiest
for the best. The other half has no part in the choice, so its verdict is worth what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.comparison.asked import compare_asked
from harness.comparison.elo import meet, with_wins
from harness.comparison.evidence import metric_scores, planned, slices_of
from harness.comparison.looks import rated
from harness.comparison.verdict_log import Decision, keep
from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.fingerprint import protocol_differences
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.plan import Extent
from harness.gate.choice import Estimate, estimates, in_order
from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

WHOLE = Extent(reserve=1.0)
"""The evidence that is divided: all samples, the reserve among them."""

Half = Mapping[str, Sequence[str]]
"""Task -> the ids of its samples in one half."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The candidate that was chosen, and what the other half decides of it.

    estimates   run id -> what the half for the choice says of each candidate
    ahead       whether the chosen one is estimated no worse on any required metric, and better on
                one; else the greatest gain of all was the least of evils
    choosing, deciding   how many samples each half has
    """

    chosen: Run
    ahead: bool
    estimates: Mapping[str, Estimate]
    decision: Decision
    choosing: int
    deciding: int


def pick(
    anchor: Run,
    candidates: Sequence[Run],
    suite: Suite,
    store: Store,
    policy: GatePolicy,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> Picked:
    """Choose among stored runs, compare the chosen one with the anchor, and store the verdict.

    Chosen is the candidate that is harmless and furthest ahead of the anchor (`gate.choice`). All
    are scored on every sample of the suite. Raises UserError where none can be compared, and where
    a task has too few samples to be divided.
    """
    first, second = halves(suite, limit=limit, seed=seed)
    problems = {run.id: said for run in candidates if (said := _problem(store, anchor, run))}
    comparable = {run.id: run for run in candidates if run.id not in problems}
    today = runs.now().date()
    found = estimates(
        _evidence(store, anchor, suite, policy, first),
        {
            name: _against(store, anchor, run, suite, policy, first)
            for name, run in comparable.items()
        },
        policy,
        today=today,
    )
    found.update((name, Estimate({}, problem)) for name, problem in problems.items())
    able = [name for name in comparable if not found[name].problem]
    if not able:
        why = next(iter(found.values())).problem if found else "no candidate was named"
        raise UserError(f"no candidate can be compared: {why}")
    order = in_order(found)
    chosen = comparable[order[0] if order else max(able, key=lambda name: found[name].gain)]
    counts = sum(map(len, first.values())), sum(map(len, second.values()))
    decision = _decide(store, anchor, chosen, suite, policy, second, len(candidates))
    return Picked(chosen, bool(order), found, decision, *counts)


def halves(suite: Suite, *, limit: int | None, seed: int) -> tuple[Half, Half]:
    """The samples of each task in two halves, by a digest of their ids and the seed. Samples of one
    cluster stay together, or the one half would tell of the other.
    """
    ids = planned(suite, WHOLE, limit=limit, seed=seed)
    divided: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for task in suite.tasks:
        cluster = {sample.id: sample.cluster or sample.id for sample in task.samples}
        units = sorted(
            {cluster[i] for i in ids[task.name]}, key=lambda unit: digest_of(["pick", seed, unit])
        )
        if len(units) < 2:
            raise UserError(
                f"the task {task.name} has too few samples to choose by some and decide by others",
                file=suite.path,
                field=f"tasks.{task.name}",
                hint="two at least, of two clusters; many more to prove anything",
            )
        chosen_by = set(units[: len(units) // 2])
        for sample_id in ids[task.name]:
            divided[cluster[sample_id] not in chosen_by].setdefault(task.name, []).append(sample_id)
    return divided


def _problem(store: Store, anchor: Run, candidate: Run) -> str:
    """Why two runs can't be compared at all; empty where they can."""
    differences = protocol_differences(anchor.fingerprint, candidate.fingerprint)
    found = differences or compare_asked(store, anchor, candidate).problems
    return found[0] if found else ""


def _evidence(
    store: Store, run: Run, suite: Suite, policy: GatePolicy, half: Half
) -> dict[str, MetricScores]:
    slices = slices_of(suite, policy)
    return metric_scores(store, run, policy=policy, only=half, slices=slices)


def _against(
    store: Store, anchor: Run, run: Run, suite: Suite, policy: GatePolicy, half: Half
) -> dict[str, MetricScores]:
    """A candidate's evidence, with its win share against the anchor where the suite has elo."""
    meet(store, suite, anchor, run, only=half)
    return with_wins(store, anchor, run, _evidence(store, run, suite, policy, half), only=half)


def _decide(
    store: Store,
    anchor: Run,
    chosen: Run,
    suite: Suite,
    policy: GatePolicy,
    half: Half,
    of: int,
) -> Decision:
    ours = _evidence(store, anchor, suite, policy, half)
    theirs = _against(store, anchor, chosen, suite, policy, half)
    today = runs.now().date()
    verdict = decide(ours, theirs, policy, today=today)
    proven = None
    if verdict.outcome in (VerdictOutcome.PASS, VerdictOutcome.INCONCLUSIVE):
        claim = improved(ours, theirs, policy, today=today)
        proven = claim.sentence if claim else None
    note = f"the half of the samples by which it was not chosen among {of}"
    verdict = rated(store, anchor, chosen, verdict.with_note(decided_on=note))
    return keep(store, "anchor", anchor, chosen, verdict, improvement=proven)
