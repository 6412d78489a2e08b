"""The page of human ratings: Elo with intervals, win shares, and how far to trust the votes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import streamlit as st

from dashboard.app import charts
from dashboard.app.filters import about, pick
from dashboard.app.page import cached, empty, export, title
from dashboard.i18n.reader import problem, tr, words
from dashboard.queries import ratings
from dashboard.web.escape import plain
from harness.core.errors import UserError
from harness.core.types import Row
from harness.ratings.rater_quality import agreement
from harness.ratings.votes import vote_of
from harness.statistics.intervals import wilson


def show() -> None:
    title("Humans", "Which model do people prefer, and can the votes be trusted?")
    sessions = {row["session_id"] or "": row for row in cached(ratings.rated)}
    if not sessions:
        empty("Nobody has voted yet.", "ratchet rate --help   # sets up a blind rating session")
        return
    session = sessions[
        pick(
            tr("Session"),
            list(sessions),
            param="session",
            shown=lambda name: _session(sessions[name]),
        )
    ]
    about(session["title"] or session["session_id"] or "")
    votes = cached(ratings.votes, session["session_id"])
    kinds = sorted({row["rater_kind"] or "human" for row in votes}, key=lambda k: k != "human")
    dimensions = sorted({row["dimension"] or "overall" for row in votes})
    left, right = st.columns(2)
    with left:
        kind = pick(tr("Raters"), kinds, param="raters", shown=lambda name: tr(name))
    with right:
        dimension = pick(tr("Question"), dimensions, param="question", shown=lambda name: tr(name))
    asked = [
        row
        for row in votes
        if (row["rater_kind"] or "human") == kind and (row["dimension"] or "overall") == dimension
    ]
    plain_votes = [row for row in asked if row["purpose"] == "plain"]
    _progress(plain_votes, session["goal"])
    if not plain_votes:
        st.info(tr("So far there are only votes on known pairs, which say nothing of the models."))
        return
    _ratings(plain_votes, session["anchor"])
    _trust(plain_votes)
    pairs = len({row["pair_id"] for row in plain_votes})
    checks = len(asked) - len(plain_votes)
    raters = {str(row["rater"]) for row in asked}
    parts = [
        tr("{n} votes on {pairs} pairs", n=f"{len(plain_votes):,}", pairs=f"{pairs:,}"),
        tr("{n} more on known or repeated pairs, left out here", n=f"{checks:,}") if checks else "",
        tr("{what}: {said}", what=tr("raters"), said=", ".join(sorted(raters))),
    ]
    st.caption(plain(" · ".join(filter(None, parts))))


def _session(row: Row) -> str:
    votes = tr("{n} votes", n=f"{row['votes']:,}")
    return " · ".join(filter(None, (row["title"], row["session_id"], votes)))


def _progress(plain_votes: Sequence[Row], goal: int | None) -> None:
    if not goal:
        st.caption(tr("{n} votes", n=f"{len(plain_votes):,}"))
        return
    share = min(len(plain_votes) / goal, 1.0)
    st.progress(share, text=tr("{n} of {goal} votes", n=len(plain_votes), goal=goal))


def _ratings(votes: Sequence[Row], anchor: str | None) -> None:
    import pandas as pd

    from harness.statistics.elo import rate

    names = _names(votes)
    frame = pd.DataFrame(
        {
            "left": [names[row["left_model"]] for row in votes],
            "right": [names[row["right_model"]] for row in votes],
            "choice": [row["choice"] for row in votes],
            "rater": [row["rater"] for row in votes],
            "prompt": [f"{row['task']}/{row['sample_id']}" for row in votes],
        }
    )
    try:
        # As `ratchet rate status` does it, so that both say the same.
        found = rate(frame, anchor=names.get(anchor), ties="davidson", bootstraps=200)
    except UserError as error:
        st.info(plain(problem(error.what)))
        return
    rows = [
        {
            "name": model,
            "value": points,
            "low": found.intervals.get(model, (points, points))[0],
            "high": found.intervals.get(model, (points, points))[1],
            "both bad": found.both_bad.get(model, 0.0),
            "tip_model": model,
            "tip_value": f"{points:.0f}",
        }
        for model, points in sorted(found.ratings.items(), key=lambda item: -item[1])
    ]
    table = pd.DataFrame(rows)
    axis = tr("Elo points, the anchor at 1000") if anchor in names else tr("Elo points, mean 1000")
    chart = charts.intervals(table, title=axis, words=words())
    left, right = st.columns([1.2, 1])
    with left:
        st.markdown(f"**{tr('Ratings')}**")
        st.altair_chart(chart, width="stretch", key="ratings", alt=tr("Ratings"))
        if found.separable:
            st.caption(tr("Some models never met or never lost: a weak prior holds the ratings."))
    cells = [
        {
            "row": row,
            "column": column,
            "share": float(found.win_matrix.loc[row, column]),
            "tip_votes": f"{found.games.loc[row, column]:.0f}",
        }
        for row in table["name"]
        for column in table["name"]
        if row != column and found.games.loc[row, column] > 0
    ]
    with right:
        st.markdown(f"**{tr('Row wins over column')}**")
        if cells:
            grid = charts.matrix(pd.DataFrame(cells), title=tr("share of wins"), words=words())
            st.altair_chart(grid, width="stretch", key="matrix", alt=tr("Row wins over column"))
    export("ratings", table[["name", "value", "low", "high", "both bad"]], chart=chart)


def _names(votes: Sequence[Row]) -> dict[str | None, str]:
    """Model digest -> a name that no other has."""
    named = {row[f"{side}_model"]: row[f"{side}_name"] for row in votes for side in _SIDES}
    counts = Counter(named.values())
    return {
        digest: name if counts[name] == 1 else f"{name} ({str(digest)[:6]})"
        for digest, name in named.items()
    }


_SIDES = ("left", "right")


def _trust(votes: Sequence[Row]) -> None:
    st.markdown(f"**{tr('Can the votes be trusted?')}**")
    chosen = [row for row in votes if row["choice"] in ("left", "right")]
    first, second, third, fourth = st.columns(4)
    if chosen:
        left = wilson(sum(row["choice"] == "left" for row in chosen), len(chosen))
        first.metric(tr("left chosen"), f"{left.value:.0%}", help=tr("50% means no bias."))
        first.caption(f"[{left.low:.0%}, {left.high:.0%}]")
    found = agreement([vote_of(row) for row in votes], bootstraps=200)
    if found.value is not None:
        second.metric(tr("agreement"), f"α {found.value:.2f}", help=tr("1 is full, 0 is chance."))
        ends = "" if found.low is None else f"[{found.low:.2f}, {found.high:.2f}] · "
        second.caption(f"{ends}{tr('{n} pairs rated twice', n=found.units)}")
    ties = sum(row["choice"] in ("tie", "both_bad") for row in votes)
    third.metric(tr("ties and both bad"), f"{ties / len(votes):.0%}" if votes else "–")
    dwell = [row["dwell_ms"] for row in votes if row["dwell_ms"] is not None]
    if dwell:
        middle_s = statistics.median(dwell) / 1000
        fourth.metric(tr("median time to a vote"), f"{middle_s:.1f} s")
