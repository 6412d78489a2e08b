"""Elo ratings of checkpoints, fitted when they are read, from every pair that was judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.comparison.elo import meet, pool_of, tasks_with_elo
from harness.core.protocol import MetricName, tasks_of
from harness.core.types import Run
from harness.metrics.elo import ELO, Elo
from harness.statistics.elo import CENTER
from harness.statistics.intervals import Estimate
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

if TYPE_CHECKING:
    import pandas as pd

UNIT = "Elo points, the anchor 1000"
ANCHOR_IS = "; the anchor is 1000"
"""Ends the note of a verdict."""

# People's votes on the very same two answers, whichever session asked for them.
_PEOPLE = """
SELECT v.left_model, v.right_model, v.left_key, v.right_key, v.choice, v.task, v.sample_id
FROM counted_votes v SEMI JOIN (
    SELECT left_key, right_key FROM votes WHERE session_id = ?
) p ON (v.left_key = p.left_key AND v.right_key = p.right_key)
    OR (v.left_key = p.right_key AND v.right_key = p.left_key)
WHERE v.rater_kind = 'human' AND v.purpose = 'plain'
"""


@dataclass(frozen=True, slots=True)
class Rating:
    """A checkpoint's Elo points with their 95% interval, from `pairs` judged; the anchor stands at
    1000 and has no interval. On `people` of the pairs people's votes count in the judge's place.
    """

    points: float
    low: float | None
    high: float | None
    pairs: int
    people: int = 0

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.points, self.low, self.high, self.pairs)

    @property
    def words(self) -> str:
        """`988 [951, 1025]`."""
        if self.low is None or self.high is None:
            return f"{self.points:.0f}"
        return f"{self.points:.0f} [{self.low:.0f}, {self.high:.0f}]"


def ratings(store: Store, protocol: Mapping[str, Any], task: str, anchor: str) -> dict[str, Rating]:
    """Model digest -> its rating on a task, for every model that a chain of pairs leads to from the
    `anchor` (a digest).

    Bradley-Terry by maximum likelihood, a tie as half a win for each, over all pairs of the task's
    judge, with whomever; intervals take the answers to one prompt (or one cluster of samples) as
    not independent. Where people voted on a pair, their votes take the place of the judge's.
    Nothing but the anchor where nothing was judged.
    """
    pool = pool_of(protocol, task)
    known = "SELECT vote_id FROM votes WHERE session_id = ? LIMIT 1"
    if pool is None or not store.query(known, [pool]):
        return {anchor: Rating(CENTER, None, None, 0)}
    table = _votes(store, pool, tasks_of(protocol)[task].digest, anchor)
    found = {anchor: Rating(CENTER, None, None, 0)}
    if table.empty:
        return found
    from harness.statistics.elo import rate

    fit = rate(table[["left", "right", "choice", "prompt"]], anchor=anchor)
    for model, points in fit.ratings.items():
        own = table[(table["left"] == model) | (table["right"] == model)]
        pairs = own.drop_duplicates(["one", "other"])
        low, high = fit.intervals.get(model, (None, None))
        found[model] = Rating(points, low, high, len(pairs), int(pairs["people"].sum()))
    return found


def _votes(store: Store, pool: str, task_digest: str, anchor: str) -> pd.DataFrame:
    """All votes that rank, of the judge and of people, on models that are tied to the anchor."""
    import pandas as pd

    columns = "left_model, right_model, left_key, right_key, choice, task, sample_id"
    judged = store.query(
        f"SELECT {columns} FROM votes WHERE session_id = ? AND choice <> 'skip'", [pool]
    )
    people = store.query(_PEOPLE, [pool])
    clusters = {
        row["sample_id"]: row["cluster"]
        for row in store.query(
            "SELECT sample_id, cluster FROM samples WHERE task_digest = ? AND cluster IS NOT NULL",
            [task_digest],
        )
    }
    asked = {_pair(row) for row in people}
    rows = [(row, 0) for row in judged if _pair(row) not in asked]
    rows += [(row, 1) for row in people if row["choice"] != "both_bad"]
    tied = _tied(anchor, [(row["left_model"], row["right_model"]) for row, _ in rows])
    return pd.DataFrame(
        [
            {
                "left": row["left_model"],
                "right": row["right_model"],
                "choice": row["choice"],
                "prompt": clusters.get(row["sample_id"], f"\0{row['sample_id']}"),
                "one": min(_pair(row)),
                "other": max(_pair(row)),
                "people": by_people,
            }
            for row, by_people in rows
            if row["left_model"] in tied and row["left_model"] != row["right_model"]
        ],
        columns=["left", "right", "choice", "prompt", "one", "other", "people"],
    )


def _pair(row: Mapping[str, Any]) -> frozenset[str]:
    return frozenset((row["left_key"], row["right_key"]))


def _tied(anchor: str, meetings: Collection[tuple[str, str]]) -> set[str]:
    """The models to which a chain of meetings leads: of others nothing is known here."""
    rivals: dict[str, set[str]] = {}
    for left, right in meetings:
        rivals.setdefault(left, set()).add(right)
        rivals.setdefault(right, set()).add(left)
    found, edge = {anchor}, [anchor]
    while edge:
        fresh = rivals.get(edge.pop(), set()) - found
        found |= fresh
        edge.extend(fresh)
    return found


def ratings_of(store: Store, run: Run) -> dict[str, Rating]:
    """`task/elo` -> the run's rating beside the anchor that it was last compared with; 1000 for a
    run that is an anchor itself. Empty for one that met nobody.
    """
    tasks = tasks_with_elo(run.fingerprint.protocol)
    anchor = anchor_of(store, run) if tasks else None
    if anchor is None:
        return {}
    found = {
        str(MetricName(task, ELO)): ratings(store, run.fingerprint.protocol, task, anchor)
        for task in tasks
    }
    return {
        name: rated[run.model_digest] for name, rated in found.items() if run.model_digest in rated
    }


def anchor_of(store: Store, run: Run) -> str | None:
    """The model digest of the anchor that a run was last compared with, its own where it is one."""
    rows = store.query(
        "SELECT r.model_digest, v.candidate_run = ? AS is_candidate FROM verdicts v "
        "JOIN runs r ON r.run_id = v.anchor_run WHERE ? IN (v.candidate_run, v.anchor_run) "
        "AND v.against <> 'crest' ORDER BY is_candidate DESC, v.seq DESC LIMIT 1",
        [run.id, run.id],
    )
    return None if not rows else str(rows[0]["model_digest"])


def note_of(store: Store, anchor: Run, candidate: Run) -> str | None:
    """What a verdict keeps of the candidate's ratings, in words; None where no task has elo."""
    protocol = candidate.fingerprint.protocol
    parts = []
    for task in tasks_with_elo(protocol):
        rated = ratings(store, protocol, task, anchor.model_digest)
        found = rated.get(candidate.model_digest)
        if found is None:
            parts.append(f"{task} no pair was judged")
            continue
        judge = tasks_of(protocol)[task].metrics[ELO]["signature"].split("|")[2].partition(":")[2]
        people = f", {found.people} of them by people" if found.people else ""
        pairs = f" ({found.pairs} pairs judged by {judge}{people})" if found.pairs else ""
        parts.append(f"{task} {found.words}{pairs}")
    return None if not parts else f"{'; '.join(parts)}{ANCHOR_IS}"


def meet_earlier(
    store: Store, suite: Suite, anchor: Run, candidate: Run, training_id: str | None
) -> None:
    """Let a candidate meet the last promoted versions of its line, as far as their answers to the
    same tasks are stored: the line of its training, or those that the anchor was promoted in.
    """
    wanted = max((m.earlier for _, m in suite.metrics() if isinstance(m, Elo)), default=0)
    if not wanted:
        return
    rows = store.query(
        """
        WITH asked AS (SELECT ? AS of_training, ? AS anchor, ? AS candidate, ? AS of_suite),
        promoted AS (
            SELECT c.line, r.model_digest, c.seq FROM checkpoints c JOIN runs r USING (run_id)
            WHERE c.event = 'promoted'
        ),
        own AS (
            SELECT line FROM trainings JOIN asked ON training_id = of_training
            UNION SELECT line FROM promoted JOIN asked ON model_digest = anchor
        )
        SELECT arg_max(r.run_id, r.seq) AS run_id, max(p.seq) AS newest
        FROM promoted p SEMI JOIN own ON p.line = own.line
        JOIN runs r USING (model_digest) JOIN asked ON r.suite_digest = of_suite
        WHERE model_digest NOT IN (anchor, candidate)
        GROUP BY model_digest ORDER BY newest DESC LIMIT ?
        """,
        [
            training_id or "",
            anchor.model_digest,
            candidate.model_digest,
            candidate.suite_digest,
            wanted,
        ],
    )
    for row in rows:
        meet(store, suite, runs.require_run(store, row["run_id"]), candidate)
