"""The page of human ratings: Elo with intervals, win shares, and how far to trust the votes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import streamlit as st

from dashboard.app import charts
from dashboard.app.page import cached, empty, export, pick, title
from dashboard.i18n.reader import tr, words
from dashboard.queries import history
from dashboard.web.escape import plain
from harness.core.errors import UserError
from harness.core.types import Row
from harness.ratings.rater_quality import agreement
from harness.ratings.votes import vote_of
from harness.statistics.intervals import wilson

GOAL = 500
"""Votes per question at which the interval of a win share is about ±4 points."""


def show() -> None:
    title("Humans", "Which model do people prefer, and can the votes be trusted?")
    votes = cached(history.votes)
    if not votes:
        empty("Nobody has voted yet.", "ratchet rate --help   # sets up a blind rating session")
        return
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
    _progress(asked, plain_votes)
    _ratings(plain_votes)
    _trust(asked)
    sessions = len({row["pair_id"] for row in asked})
    st.caption(
        plain(
            f"{len(asked):,} {tr('votes')} · {sessions:,} {tr('pairs')} · {tr('raters')}: "
            + ", ".join(sorted({str(row["rater"]) for row in asked}))
        )
    )


def _progress(asked: Sequence[Row], plain_votes: Sequence[Row]) -> None:
    share = min(len(plain_votes) / GOAL, 1.0)
    text = tr("{n} of {goal} votes", n=len(plain_votes), goal=GOAL)
    st.progress(share, text=text)


def _ratings(votes: Sequence[Row]) -> None:
    import pandas as pd

    from harness.statistics.elo import rate

    frame = pd.DataFrame(
        {
            "left": [row["left_name"] for row in votes],
            "right": [row["right_name"] for row in votes],
            "choice": [row["choice"] for row in votes],
            "rater": [row["rater"] for row in votes],
            "prompt": [f"{row['task']}/{row['sample_id']}" for row in votes],
        }
    )
    try:
        found = rate(frame)
    except UserError as error:
        st.info(plain(error.what))
        return
    rows = [
        {
            "name": model,
            "value": points,
            "low": found.intervals[model][0],
            "high": found.intervals[model][1],
            "both bad": found.both_bad.get(model, 0.0),
            "tip_model": model,
            "tip_value": f"{points:.0f}",
        }
        for model, points in sorted(found.ratings.items(), key=lambda item: -item[1])
    ]
    table = pd.DataFrame(rows)
    chart = charts.intervals(table, title=tr("Elo points, mean 1000"), words=words())
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
