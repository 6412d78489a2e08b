"""Decides once more before a promotion, on fresh answers that nothing was chosen by.

A checkpoint that was chosen because it did best on some answers looks better on those than it is,
so they can't confirm it. Fresh answers have a draw number of their own, that of the version to be
promoted: who tries the same promotion again gets the same answers and the same verdict, and can't
repeat it until it passes by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from harness.backends.base import Candidate
from harness.comparison.calibrations import calibrated
from harness.comparison.evidence import metric_scores, slices_of
from harness.comparison.looks import decide_once, schedule
from harness.comparison.stored_runs import decide_stored, metrics_of, read_policy
from harness.comparison.verdict_log import Decision, keep_verdict
from harness.core.errors import UserError
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.generate import Progress, silent
from harness.evaluation.references import suite_path
from harness.evaluation.runner import RunReport, score
from harness.gate.decision import requirements_only
from harness.gate.policy import GatePolicy
from harness.gate.verdict import Verdict
from harness.registry.lines import PromotedVersion
from harness.registry.registry import Registry
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

Opened = Callable[[str], Candidate]
"""Opens the checkpoint of a digest; its weights are loaded only when it has to answer."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The evidence for or against a promotion.

    run                   the candidate's, on fresh answers
    verdict_id, verdict   compared with the promoted version; for the first of a line the verdict on
                          the absolute requirements
    decision              the comparison behind it; None for the first of a line
    root                  the comparison with the line's first version, where that is another one
    refused               why it must not be promoted, in a sentence; empty where it may be
    notes                 which answers were fresh
    """

    run: Run
    verdict_id: str
    verdict: Verdict
    decision: Decision | None
    root: Decision | None
    refused: str
    notes: tuple[str, ...]


def confirm(
    registry: Registry,
    store: Store,
    line: str,
    digest: str,
    suite: Suite,
    opened: Opened,
    *,
    budget: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Confirmation:
    """Score the candidate, the promoted version and the first one anew, and decide.

    All are scored on fresh draws and the whole reserve. `budget` is the share that the line may
    lose since its first version, over all promotions; the policy's margins where it is None. Raises
    UserError where a model can't be opened.
    """
    history = registry.history(line)
    before = history[-1] if history else None
    # Draw 0 is what training and gate have seen.
    draw = before.number + 1 if before is not None else 1
    policy, notes = calibrated(store, suite.digest, suite.policy)
    fresh = _Fresh(store, suite, opened, draw, seed, progress)
    run = fresh.run_of(digest)
    said = fresh.said
    if before is None:
        return _first(store, run, suite, policy, {**notes, "confirmed": said}, said)
    notes = {**notes, "confirmed": said}
    rival = fresh.run_of(before.digest)
    decision = decide_once(store, f"line:{line}", rival, run, suite, policy, notes=notes)
    root = None
    if history[0].digest not in (before.digest, digest):
        root = _against_root(registry, store, history[0], run, fresh, _widened(policy, budget))
    return Confirmation(
        run=run,
        verdict_id=decision.id,
        verdict=decision.verdict,
        decision=decision,
        root=root,
        refused=_refusal(decision, root, history[0]),
        notes=(said,),
    )


def _first(
    store: Store,
    run: Run,
    suite: Suite,
    policy: GatePolicy,
    notes: Mapping[str, str],
    said: str,
) -> Confirmation:
    """The first of a line has nothing to be compared with, so only its absolute requirements are
    tested.
    """
    scores = metric_scores(store, run, policy=policy, slices=slices_of(suite, policy))
    asked = requirements_only(scores, policy, today=runs.now().date()).with_note(**notes)
    verdict_id = keep_verdict(store, "requirements", None, run.id, asked)
    refused = "" if asked.passed else asked.headline
    return Confirmation(run, verdict_id, asked, None, None, refused, (said,))


@dataclass
class _Fresh:
    """Scores checkpoints on one draw that no checkpoint was chosen by, and on the whole reserve."""

    store: Store
    suite: Suite
    opened: Opened
    draw: int
    seed: int
    progress: Progress
    said: str = ""

    def run_of(self, digest: str) -> Run:
        extent = replace(schedule(self.suite.policy.looks or (1.0,))[-1], reserve=1.0)
        report: RunReport = score(
            self.opened(digest),
            self.suite,
            self.store,
            seed=self.seed,
            draw=self.draw,
            extent=extent,
            progress=self.progress,
        )
        self.said = self._words()
        return report.run

    def _words(self) -> str:
        """Which answers are fresh; greedy ones come out the same each time, so none without a
        reserve.
        """
        sampled = [task.name for task in self.suite.tasks if task.sampled]
        reserve = sum(sample.reserve for task in self.suite.tasks for sample in task.samples)
        parts = []
        if sampled:
            parts.append(f"fresh answers (draw {self.draw}) in {', '.join(sampled)}")
        if reserve:
            parts.append(f"{reserve} reserve samples")
        if parts:
            return " and ".join(parts)
        return "nothing fresh: no task is sampled and none keeps a reserve"


def check_verdict(
    registry: Registry,
    store: Store,
    line: str,
    digest: str,
    verdict_id: str,
    model_digest: Callable[[str], str | None],
) -> Decision | None:
    """Check that a stored verdict is about this promotion, and compare with the first version.

    The verdict's candidate must be the checkpoint and its anchor the version that is promoted now;
    `model_digest` gives the digest under which a checkpoint is scored. Returns the comparison with
    the line's first version by the stored runs; None where that version is the promoted one or was
    never scored. Raises UserError for a verdict about other checkpoints, and for a suite whose
    policy can't be used.
    """
    rows = store.query(
        "SELECT candidate_run, anchor_run FROM verdicts WHERE verdict_id = ?", [verdict_id]
    )
    if not rows:
        raise UserError(f"there is no verdict {verdict_id!r}", field="--verdict")
    candidate = runs.find_run(store, rows[0]["candidate_run"])
    mine = {model_digest(digest), _model_of(store, registry.run_of(digest))}
    _require_about(candidate, mine, verdict_id, "this")
    history = registry.history(line)
    if not history:
        return None
    before, root = history[-1], history[0]
    anchor = runs.find_run(store, rows[0]["anchor_run"] or "")
    promoted = {model_digest(before.digest), _model_of(store, before.run_id)}
    _require_about(anchor, promoted, verdict_id, "the promoted")
    kept = runs.find_run(store, root.run_id) if root.run_id else None
    if root.digest in (before.digest, digest) or kept is None or candidate is None:
        return None
    policy = _policy_of(candidate, store)
    notes = {"budget": f"against version 1 ({root.digest[:12]}), for all promotions together"}
    return decide_stored(store, "root", kept, candidate, policy, notes=notes)


def _policy_of(run: Run, store: Store) -> GatePolicy:
    """That of the suite a run was scored on; the default where the file is not here.

    Raises UserError where the file is here and can't be used, as `ratchet gate` does: a promotion
    must not be decided on another policy than the one that was written.
    """
    path = suite_path(run, store)
    if path is None or not path.is_file():
        return GatePolicy()
    return read_policy(path, metrics_of(run))


def _model_of(store: Store, run_id: str | None) -> str | None:
    run = runs.find_run(store, run_id) if run_id else None
    return run.model_digest if run is not None else None


def _require_about(
    run: Run | None, models: Collection[str | None], verdict_id: str, what: str
) -> None:
    if run is None or run.model_digest not in models:
        raise UserError(
            f"verdict {verdict_id} is not about {what} checkpoint",
            field="--verdict",
            hint="leave --verdict out to have it decided again",
        )


def _against_root(
    registry: Registry,
    store: Store,
    root: PromotedVersion,
    run: Run,
    fresh: _Fresh,
    policy: GatePolicy,
) -> Decision:
    """The comparison with the first promoted version.

    Each promotion may lose up to a margin unseen; compared only with the version before, a line
    could lose that much again and again.
    """
    notes = {"budget": f"against version 1 ({root.digest[:12]}), for all promotions together"}
    try:
        registry.path(root.digest)
    except UserError:
        kept = runs.find_run(store, root.run_id) if root.run_id else None
        if kept is None:
            raise UserError(
                f"no comparison with version 1 of {root.line}: it was pruned and never scored",
                hint='promote without it by giving the reason: --override "reason"',
            ) from None
        return decide_stored(store, "root", kept, run, policy, notes=notes)
    rival = fresh.run_of(root.digest)
    return decide_once(store, "root", rival, run, fresh.suite, policy, notes=notes)


def _widened(policy: GatePolicy, budget: float | None) -> GatePolicy:
    """The policy with `budget` for every margin that it sets; unchanged without one."""
    if budget is None:
        return policy
    metrics = {
        name: own if own.margin is None else own.changed(margin=budget)
        for name, own in policy.metrics.items()
    }
    return policy.changed(margin=budget, metrics=metrics)


def _refusal(decision: Decision, root: Decision | None, first: PromotedVersion) -> str:
    verdict = decision.verdict
    improved = decision.improvement is not None and not verdict.failed
    if verdict.outcome is not VerdictOutcome.PASS and not improved:
        return verdict.headline
    if root is not None and root.verdict.failed:
        return (
            f"against version 1 of {first.line} ({first.digest[:12]}) it fails: many promotions "
            f"together may lose no more than one may. {root.verdict.headline}"
        )
    return ""
