"""Human ratings of two runs beside the gate's verdict, with their own share of alpha.

Votes come in over days, on a schedule of looks that the session planned; sharing alpha with
metrics that are computed in a minute would tie either to the other's clock. So the win share is
decided by the gate's own rule at the session's alpha, and both verdicts must hold.
"""

from __future__ import annotations

from harness.comparison.verdict_log import keep_verdict
from harness.core.errors import UserError
from harness.core.types import Run, VerdictOutcome
from harness.ratings import session as ratings
from harness.ratings import votes as ratings_votes
from harness.ratings.verdict import Standing, standing
from harness.store.store import Store

_CAREFUL = (
    VerdictOutcome.INCOMPARABLE,
    VerdictOutcome.FAIL,
    VerdictOutcome.INCONCLUSIVE,
    VerdictOutcome.PASS,
)


def people_on(store: Store, session_id: str, anchor: Run, candidate: Run) -> Standing:
    """Where the session's verdict on these two stands; a verdict that was reached is stored.

    Raises UserError where the session compares other models.
    """
    session = ratings.load(store, session_id)
    digests = {contender.digest: contender for contender in session.contenders[1:]}
    if session.anchor.digest != anchor.model_digest or candidate.model_digest not in digests:
        compared = ", ".join(contender.model for contender in session.contenders)
        raise UserError(
            f"session {session.id} does not compare this candidate with this anchor",
            field="--humans",
            hint=f"it compares: {compared}; the anchor is the first",
        )
    contender = digests[candidate.model_digest]
    found = standing(session, ratings_votes.votes(store, session), contender)
    if found.verdict is not None:
        verdict = found.verdict.with_note(session=session.id)
        keep_verdict(store, "humans", anchor.id, candidate.id, verdict)
    return found


def together(first: VerdictOutcome, people: Standing) -> VerdictOutcome:
    """The more careful of the two; before people's first look it is inconclusive at best."""
    second = people.verdict.outcome if people.verdict else VerdictOutcome.INCONCLUSIVE
    return min(first, second, key=_CAREFUL.index)
