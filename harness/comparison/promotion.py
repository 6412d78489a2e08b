"""Decides once more before a promotion, on fresh answers that nothing was chosen by.

The draw of a confirmation is the number of the version that is to be promoted. Trying the same
promotion again so finds the same answers and the same verdict, and not another throw of the dice;
and what is promoted is never compared with answers that it was itself chosen by.
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
"""Opens the checkpoint of a digest, its weights only when it has to answer."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a promotion stands on.

    `verdict_id` and `verdict` are those against what is promoted (the first of a line: of the
    absolute requirements); `root` is the decision against the first promoted version, where that
    is another one; `refused` says in a sentence why it must not be promoted, else it is empty.
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
    """Score candidate, promoted and root on fresh draws and the reserve, and decide.

    `budget` is what the line may lose in all since its first version, a share of the root;
    the policy's margins where it is None. Raises UserError where a model can't be opened.
    """
    history = registry.history(line)
    before = history[-1] if history else None
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
    """The first of a line has nobody to be compared with: its absolute requirements are asked."""
    scores = metric_scores(store, run, policy=policy, slices=slices_of(suite, policy))
    asked = requirements_only(scores, policy, today=runs.now().date()).with_note(**notes)
    verdict_id = keep_verdict(store, "requirements", None, run.id, asked)
    refused = "" if asked.passed else asked.headline
    return Confirmation(run, verdict_id, asked, None, None, refused, (said,))


@dataclass
class _Fresh:
    """Scores checkpoints on one draw that nobody was chosen by, and on the whole reserve."""

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
        """What is fresh about it; greedy answers without a reserve can't be."""
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
    """Whether a verdict that was reached elsewhere is about this promotion.

    Its candidate must be the checkpoint, and its anchor what is promoted now; `model_digest` gives
    the digest under which a checkpoint is scored. Returns the decision against the root, by the
    runs that are stored, where there is one to be had. Raises UserError for another's verdict, and
    for a suite whose policy can't be used.
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
            hint="leave --verdict out, and it is decided once more",
        )


def _against_root(
    registry: Registry,
    store: Store,
    root: PromotedVersion,
    run: Run,
    fresh: _Fresh,
    policy: GatePolicy,
) -> Decision:
    """Against the first promoted version, so that many small losses stay one margin together."""
    notes = {"budget": f"against version 1 ({root.digest[:12]}), for all promotions together"}
    try:
        registry.path(root.digest)
    except UserError:
        kept = runs.find_run(store, root.run_id) if root.run_id else None
        if kept is None:
            raise UserError(
                f"version 1 of {root.line} can't be compared with: it was pruned, and never scored",
                hint='say why it may be passed over: --override "reason"',
            ) from None
        return decide_stored(store, "root", kept, run, policy, notes=notes)
    rival = fresh.run_of(root.digest)
    return decide_once(store, "root", rival, run, fresh.suite, policy, notes=notes)


def _widened(policy: GatePolicy, budget: float | None) -> GatePolicy:
    """The policy with the cumulative budget for its margin, where one was named."""
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
