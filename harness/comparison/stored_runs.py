"""Compares two runs that are both in the store, without a suite file or a model.

This is what CI does with two bundles, and with what was imported from elsewhere: the samples are
the runs' own, and the policy comes from a file or is the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.comparison.asked import SETTLE, compare_asked
from harness.comparison.elo import meet, tasks_with_elo, with_wins
from harness.comparison.evidence import metric_scores
from harness.comparison.looks import incomparable, rated
from harness.comparison.verdict_log import Decision, keep
from harness.core import protocol
from harness.core.errors import UserError
from harness.core.fingerprint import protocol_differences
from harness.core.protocol import MetricName
from harness.core.types import Run, Sample, VerdictOutcome
from harness.core.yaml_file import load_yaml, validate
from harness.evaluation.references import suite_path
from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, policy_from_mapping
from harness.store import runs
from harness.store.store import Store
from harness.suite.load import load_suite


class _WithGate(BaseModel):
    """A file with a `gate:` block among other things: a suite is one."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    gate: GatePolicy = GatePolicy()


def read_policy(path: Path, metrics: Collection[str]) -> GatePolicy:
    """The policy in a YAML file: a suite's `gate:` block, or the block's keys by themselves.

    `metrics` are the runs' `task/metric` names. Raises UserError with file, line and field, also
    for a metric that the policy names and the runs don't have: a typo would leave it ungated.
    """
    document = load_yaml(path, what="policy")
    inside = "gate" in document.data or "tasks" in document.data
    policy = validate(_WithGate, document).gate if inside else validate(GatePolicy, document)
    for problem, name, hint in _named_in_vain(policy.metrics, metrics):
        place = ("gate", "metrics", name) if inside else ("metrics", name)
        raise document.error(problem, place, hint=hint)
    return policy


def policy_over(given: GatePolicy | Mapping[str, Any], metrics: Collection[str]) -> GatePolicy:
    """A policy, or one made from the keys of a `gate:` block, for runs with these `metrics`.

    Raises UserError with the field, also for a metric that the runs don't have.
    """
    policy = given if isinstance(given, GatePolicy) else policy_from_mapping(given)
    for problem, name, hint in _named_in_vain(policy.metrics, metrics):
        raise UserError(problem, field=f"gate.metrics.{name}", hint=hint)
    return policy


def _named_in_vain(
    named: Collection[str], metrics: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """(problem, name, hint) for each metric in the policy that the runs don't have."""
    known = {*metrics, *(MetricName.parse(name).metric for name in metrics)}
    for name in named:
        if name not in known:
            problem = f"the policy names a metric that the runs don't have: {name!r}"
            yield problem, name, f"they have: {', '.join(sorted(metrics))}"


def metrics_of(run: Run) -> list[str]:
    """The `task/metric` names of a run."""
    return [str(name) for name, _ in protocol.metrics_of(run.fingerprint.protocol)]


def decide_stored(
    store: Store,
    against: str,
    anchor: Run,
    candidate: Run,
    policy: GatePolicy,
    *,
    notes: Mapping[str, str] | None = None,
) -> Decision:
    """Compare two stored runs on all evidence that both have, and store the verdict.

    `against` names the anchor's part ("anchor", "root"). Reserve samples count only if both runs
    answered them; every other sample that one run answered must be in the other. The decision says
    what was shown to be better, where something was.
    """
    problems = protocol_differences(anchor.fingerprint, candidate.fingerprint)
    if problems:
        verdict = incomparable(problems, policy).with_note(**(notes or {}))
        return keep(store, against, anchor, candidate, verdict)
    asked = compare_asked(store, anchor, candidate)
    notes = {**asked.notes, **(notes or {})}
    if asked.problems:
        verdict = incomparable(asked.problems, policy, settle=SETTLE).with_note(**notes)
        return keep(store, against, anchor, candidate, verdict)
    ours, theirs = scores_of_both(store, anchor, candidate, policy)
    today = runs.now().date()
    verdict = decide(ours, theirs, policy, today=today).with_note(**notes)
    verdict = rated(store, anchor, candidate, verdict)
    proven = None
    if verdict.outcome in (VerdictOutcome.PASS, VerdictOutcome.INCONCLUSIVE):
        claim = improved(ours, theirs, policy, today=today)
        proven = claim.sentence if claim else None
    return keep(store, against, anchor, candidate, verdict, improvement=proven)


def _meet(store: Store, anchor: Run, candidate: Run, only: Mapping[str, Collection[str]]) -> None:
    """Judge the pairs that elo needs, where the suite's file is here to say by whom."""
    if not tasks_with_elo(candidate.fingerprint.protocol):
        return
    path = suite_path(candidate, store)
    if path is not None and path.is_file():
        meet(store, load_suite(path), anchor, candidate, only=only)


def scores_of_both(
    store: Store, anchor: Run, candidate: Run, policy: GatePolicy
) -> tuple[dict[str, MetricScores], dict[str, MetricScores]]:
    """Both runs' scores on all evidence that both have, as the gate compares them."""
    samples = _samples(store, anchor)
    only = _asked(store, anchor, candidate, samples)
    slices = _slices(samples, policy)
    ours, theirs = (_scores(store, run, policy, only, slices) for run in (anchor, candidate))
    _meet(store, anchor, candidate, only)
    return ours, with_wins(store, anchor, candidate, theirs, only=only)


def _scores(
    store: Store,
    run: Run,
    policy: GatePolicy,
    only: Mapping[str, Collection[str]],
    slices: Mapping[str, Mapping[str, str]],
) -> dict[str, MetricScores]:
    return metric_scores(store, run, policy=policy, only=only, slices=slices)


def _samples(store: Store, run: Run) -> dict[str, dict[str, Sample]]:
    """Task -> sample id -> sample, as they were when the run was scored."""
    return {
        name: runs.load_samples(store, task.digest)
        for name, task in protocol.tasks_of(run.fingerprint.protocol).items()
    }


def _asked(
    store: Store, anchor: Run, candidate: Run, samples: Mapping[str, Mapping[str, Sample]]
) -> dict[str, set[str]]:
    """Task -> the ids of all samples that either run answered, without reserve samples that only
    one of them did: how much of the reserve was used depends on the looks that were needed.
    """
    rows: list[dict[str, Any]] = store.query(
        "SELECT task, sample_id, count(DISTINCT run_id) AS runs FROM scores "
        "WHERE run_id IN (?, ?) GROUP BY task, sample_id",
        [anchor.id, candidate.id],
    )
    both = 1 if anchor.id == candidate.id else 2
    only: dict[str, set[str]] = {task: set() for task in samples}
    for row in rows:
        sample = samples.get(row["task"], {}).get(row["sample_id"])
        kept_back = sample is not None and sample.reserve
        # Other samples that only one run has stay in, so that the gate reports them as missing.
        if row["runs"] == both or not kept_back:
            only.setdefault(row["task"], set()).add(row["sample_id"])
    return only


def _slices(
    samples: Mapping[str, Mapping[str, Sample]], policy: GatePolicy
) -> dict[str, dict[str, str]]:
    fields = {own.by for own in policy.metrics.values() if own.by}
    return {
        name: {
            sample.id: str(sample.fields[name])
            for of_task in samples.values()
            for sample in of_task.values()
            if name in sample.fields
        }
        for name in fields
    }
