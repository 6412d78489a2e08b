"""Scores what a look needs, decides, and looks again while the verdict is open.

The decision itself (`harness.gate`) is pure; here it is given scores from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.comparison.asked import SETTLE, compare_asked
from harness.comparison.elo import meet, save_wins, with_wins
from harness.comparison.elo_ratings import meet_earlier, note_of
from harness.comparison.evidence import metric_scores, planned, planned_responses, slices_of
from harness.comparison.verdict_log import Decision, keep
from harness.core.fingerprint import protocol_differences
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.plan import Extent
from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.gate.verdict import Verdict
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

Extend = Callable[[Extent], Run]
"""Scores the model as far as an extent says and returns its run; what is stored isn't redone."""


def schedule(looks: Sequence[float]) -> tuple[Extent, ...]:
    """The evidence of each planned look, from cumulative shares such as (1, 2, 4).

    Sampled answers grow with the share (K, 2K, 4K). A greedy answer is the same each time, so for
    those tasks a growing part of the reserve samples is added instead.
    """
    first, last = looks[0], looks[-1]
    return tuple(
        Extent(
            responses=max(1, round(share / first)),
            reserve=0.0 if last == first else (share - first) / (last - first),
            gated_only=True,
        )
        for share in looks
    )


def evidence_at(
    store: Store,
    run: Run,
    suite: Suite,
    policy: GatePolicy,
    extent: Extent,
    *,
    whole: bool = False,
) -> dict[str, MetricScores]:
    """A run's scores as one look may use them; with `whole` all answers of each sample, not just K.

    That is for anchors: more responses make their values more precise without changing what they
    estimate. The candidate is held to K, or a look would use evidence planned for a later one.
    """
    return metric_scores(
        store,
        run,
        policy=policy,
        only=planned(suite, extent, limit=run.limit, seed=run.seed),
        responses=None if whole else planned_responses(suite, extent),
        slices=slices_of(suite, policy),
    )


def both_at(
    store: Store, anchor: Run, candidate: Run, suite: Suite, policy: GatePolicy, extent: Extent
) -> tuple[dict[str, MetricScores], dict[str, MetricScores]]:
    """The scores of an anchor and of a candidate as one look may use them. Their answers meet in
    pairs where the suite has elo; what was judged is not judged again.
    """
    ours = evidence_at(store, anchor, suite, policy, extent, whole=True)
    theirs = evidence_at(store, candidate, suite, policy, extent)
    only = planned(suite, extent, limit=candidate.limit, seed=candidate.seed)
    limits = planned_responses(suite, extent)
    meet(store, suite, anchor, candidate, only=only, limits=limits)
    return ours, with_wins(store, anchor, candidate, theirs, only=only, limits=limits)


def compare(
    store: Store,
    anchor: Run,
    candidate: Run,
    suite: Suite,
    policy: GatePolicy,
    *,
    extents: Sequence[Extent],
    look: int,
    earlier: Verdict | None = None,
    other_prompts: bool = False,
) -> Verdict:
    """The verdict of one look (counted from 1) over two runs that are both scored that far.

    With `other_prompts` the models may have been asked in other tokens, which the verdict's note
    then says: that is what is to be measured.
    """
    problems = protocol_differences(anchor.fingerprint, candidate.fingerprint)
    if problems:
        return incomparable(problems, policy, (look, len(extents)))
    asked = compare_asked(store, anchor, candidate)
    if asked.problems and not other_prompts:
        return incomparable(asked.problems, policy, (look, len(extents)), settle=SETTLE)
    notes = {"prompts": asked.problems[0]} if asked.problems else asked.notes
    extent = extents[look - 1]
    verdict = decide(
        *both_at(store, anchor, candidate, suite, policy, extent),
        policy,
        look=(look, len(extents)),
        earlier=earlier,
        today=runs.now().date(),
    )
    return verdict.with_note(**notes)


def incomparable(
    reasons: Sequence[str],
    policy: GatePolicy = GatePolicy(),
    look: tuple[int, int] = (1, 1),
    *,
    settle: str = "score both models on the same suite, data and settings",
) -> Verdict:
    """The verdict on two runs that can't be compared; each reason names a field that differs."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return Verdict(
        outcome=VerdictOutcome.INCOMPARABLE,
        rows=(),
        headline=f"These runs were not scored in the same way: {reasons[0]}{more}.",
        reasons=tuple(reasons),
        settle=settle,
        rule=policy.rule,
        fail_rule=policy.fail_rule,
        policy_alpha=policy.alpha,
        look=look,
    )


def decide_by_looks(
    extend: Extend,
    opponents: Mapping[str, Run | Extend],
    suite: Suite,
    store: Store,
    policy: GatePolicy,
    *,
    looks: Sequence[float] = (1.0,),
    training_id: str | None = None,
    step: int | None = None,
    on_look: Callable[[int, int, Extent], None] = lambda look, of, extent: None,
    notes: Mapping[str, str] | None = None,
) -> list[Decision]:
    """Compare a candidate with every opponent ("anchor", "best checkpoint"), look by look.

    `looks` are cumulative shares of the evidence, as in `schedule`. The loop ends when an
    opponent's verdict is `fail` or `incomparable`, or when none is open. Every verdict is stored,
    with the caller's `notes`; the last one per opponent is returned, in the opponents' order.
    `on_look` is called before each look with its number, how many there are, and its extent.
    """
    extents = schedule(looks)
    policy = policy.changed(looks=tuple(looks))
    decisions: dict[str, Decision] = {}
    open_names = list(opponents)
    for look, extent in enumerate(extents, start=1):
        on_look(look, len(extents), extent)
        candidate = extend(extent)
        for name in open_names:
            opponent = opponents[name]
            anchor = opponent if isinstance(opponent, Run) else opponent(extent)
            verdict = compare(
                store,
                anchor,
                candidate,
                suite,
                policy,
                extents=extents,
                look=look,
                earlier=decisions[name].verdict if name in decisions else None,
            ).with_note(**(notes or {}))
            if name != "crest":
                meet_earlier(store, suite, anchor, candidate, training_id)
                verdict = rated(store, anchor, candidate, verdict)
            decisions[name] = keep(store, name, anchor, candidate, verdict, training_id, step)
        # What passed stays passed: only open comparisons are looked at again.
        outcomes = {name: decisions[name].verdict.outcome for name in open_names}
        open_names = [n for n in open_names if outcomes[n] is VerdictOutcome.INCONCLUSIVE]
        stops = (VerdictOutcome.FAIL, VerdictOutcome.INCOMPARABLE)
        if not open_names or any(outcome in stops for outcome in outcomes.values()):
            break
    return [decisions[name] for name in opponents]


def decide_once(
    store: Store,
    against: str,
    anchor: Run,
    candidate: Run,
    suite: Suite,
    policy: GatePolicy,
    *,
    notes: Mapping[str, str] | None = None,
    other_prompts: bool = False,
) -> Decision:
    """Compare two runs on all evidence that both have, and store the verdict.

    The decision says what was shown to be better, where something was. For `other_prompts` see
    `compare`.
    """
    # More responses than any suite asks for, and the whole reserve: everything there is.
    whole = (Extent(responses=2**20, reserve=1.0),)
    verdict = compare(
        *(store, anchor, candidate, suite, policy),
        extents=whole,
        look=1,
        other_prompts=other_prompts,
    )
    proven = None
    if verdict.outcome in (VerdictOutcome.PASS, VerdictOutcome.INCONCLUSIVE):
        sides = both_at(store, anchor, candidate, suite, policy, whole[0])
        claim = improved(*sides, policy, today=runs.now().date())
        proven = claim.sentence if claim else None
    meet_earlier(store, suite, anchor, candidate, None)
    verdict = rated(store, anchor, candidate, verdict.with_note(**(notes or {})))
    return keep(store, against, anchor, candidate, verdict, improvement=proven)


def rated(store: Store, anchor: Run, candidate: Run, verdict: Verdict) -> Verdict:
    """The verdict with the candidate's Elo beside the anchor's, where its suite has elo; the win
    share of each answer is kept among the candidate's scores.
    """
    if verdict.outcome is VerdictOutcome.INCOMPARABLE and not verdict.rows:
        return verdict
    note = note_of(store, anchor, candidate)
    if note is None:
        return verdict
    save_wins(store, anchor, candidate)
    return verdict.with_note(elo=note)
