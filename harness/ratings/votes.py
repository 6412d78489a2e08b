"""Reads and counts the votes of a session, people and models apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.ratings.session import Kind, Session
from harness.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from harness.statistics.elo import Ratings


@dataclass(frozen=True, slots=True)
class Vote:
    """One counted comparison. `left` and `right` are digests of models (empty for gold).

    `dwell_ms` is the time on screen; None where nobody was asked: a model voted, or the two answers
    are one text, which counts as the person's tie.
    """

    id: str
    rater: str
    pair: str
    purpose: str
    task: str
    sample: str
    left_key: str
    right_key: str
    left: str
    right: str
    choice: str
    dwell_ms: float | None
    comment: str | None

    @property
    def prompt(self) -> str:
        return f"{self.task}/{self.sample}"

    def points(self, model: str) -> float | None:
        """1 where `model` (a digest) won, ½ for a tie, 0 where it lost; None for "both bad", which
        ranks neither.
        """
        if self.choice in ("tie", "both_bad"):
            return 0.5 if self.choice == "tie" else None
        return float((self.choice == "left") == (self.left == model))

    def favours(self) -> str:
        """The response that was chosen, or the choice itself: the same for either orientation."""
        return {"left": self.left_key, "right": self.right_key}.get(self.choice, self.choice)


def votes(
    store: Store, session: Session, *, kind: Kind = "human", excluded: bool = False
) -> list[Vote]:
    """Votes of one kind of rater in the order they were given; undone and skipped ones left out.

    `excluded` keeps those of excluded raters too.
    """
    view = "current_votes" if excluded else "counted_votes"
    rows = store.query(
        f"SELECT * FROM {view} WHERE session_id = ? AND rater_kind = ? ORDER BY seq",
        [session.id, kind],
    )
    return [vote_of(row) for row in rows]


def vote_of(row: Mapping[str, Any]) -> Vote:
    """A row of the table as a vote."""
    return Vote(
        row["vote_id"],
        row["rater"],
        row["pair_id"],
        row["purpose"],
        row["task"] or "",
        row["sample_id"] or "",
        row["left_key"],
        row["right_key"],
        row["left_model"] or "",
        row["right_model"] or "",
        row["choice"],
        row["dwell_ms"],
        row["comment"],
    )


def plain(found: Iterable[Vote]) -> list[Vote]:
    """The votes that are evidence about the models: neither on known pairs nor repeated."""
    return [vote for vote in found if vote.purpose == "plain"]


def frame(session: Session, found: Sequence[Vote]) -> pd.DataFrame:
    """Plain votes as `statistics.elo.rate` takes them, models by the names of their runs."""
    import pandas as pd

    names = labels(session)
    return pd.DataFrame(
        [
            (names[v.left], names[v.right], v.choice, v.rater, v.prompt)
            for v in plain(found)
            if v.left in names and v.right in names
        ],
        columns=["left", "right", "choice", "rater", "prompt"],
    )


def labels(session: Session) -> dict[str, str]:
    """Model digest -> a name that no other contender has."""
    counts = [contender.model for contender in session.contenders]
    return {
        c.digest: c.model if counts.count(c.model) == 1 else f"{c.model} (run:{c.run})"
        for c in session.contenders
    }


def ratings(
    session: Session, found: Sequence[Vote], *, bootstraps: int = 200, alone: bool = False
) -> Ratings | None:
    """Elo points with Davidson's ties, intervals clustered by rater and by prompt.

    The anchor stands at 1000. None before a vote ranks it. `alone` is for the votes of one judge:
    the ratings are by this judge, and the intervals are over prompts only.
    """
    from harness.statistics.elo import rate

    table = frame(session, found)
    if alone:
        table = table.drop(columns="rater")
    ranking = table[table["choice"] != "both_bad"]
    anchor = labels(session)[session.anchor.digest]
    if ranking.empty or not ((ranking["left"] == anchor) | (ranking["right"] == anchor)).any():
        return None
    return rate(table, anchor=anchor, ties="davidson", bootstraps=bootstraps)


def answered(store: Store, session: Session, *, kind: Kind = "human") -> dict[str, int]:
    """Dimension -> answers that count: neither taken back, nor of an excluded rater."""
    from harness.ratings.session import register

    out = register(store, session).excluded
    rows = store.query(
        "SELECT dimension, rater, count(*) AS n FROM questionnaires q WHERE session_id = ? "
        "AND rater_kind = ? AND value IS NOT NULL AND undoes IS NULL AND NOT EXISTS "
        "(SELECT 1 FROM questionnaires u WHERE u.undoes = q.answer_id) GROUP BY ALL",
        [session.id, kind],
    )
    found: dict[str, int] = {}
    for row in rows:
        if row["rater"] not in out:
            found[row["dimension"]] = found.get(row["dimension"], 0) + row["n"]
    return found


def exclude(store: Store, session: Session, rater: str, reason: str, *, back: bool = False) -> int:
    """Leave a rater's votes out from now on (or take them `back` in), and say why.

    Nothing is deleted. Returns how many votes it concerns; raises UserError for an unknown rater
    or an empty reason.
    """
    from harness.ratings.session import record, register

    counts = store.query(
        "SELECT count(*) AS n FROM current_votes WHERE session_id = ? AND rater = ?",
        [session.id, rater],
    )
    if not counts[0]["n"] and rater not in register(store, session).raters:
        raise UserError(
            f"session {session.id} has no rater called {rater!r}",
            field="rater",
            hint=f"`ratchet rate status {session.id}` lists its raters",
        )
    record(store, session, "readmitted" if back else "excluded", rater=rater, reason=reason)
    return int(counts[0]["n"])
