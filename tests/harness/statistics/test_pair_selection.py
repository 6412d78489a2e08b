"""Which pair next: fewer votes than uniform for the same intervals, fairly over the prompts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.statistics.pair_selection import Design, interval_widths, next_comparison, next_item

STRENGTHS = np.array([0.0, 0.2, 0.5, 1.0, 1.8, 2.8])  # the best wins 94% against the anchor
WIDTH = 0.8  # log-odds: 139 Elo points from end to end


def vote(rng, gap):
    """1, 0 or ½ to the first by Davidson's model; about a fifth of even votes are ties."""
    won, lost, drawn = np.exp(gap / 2), np.exp(-gap / 2), 0.5
    u = rng.random() * (won + lost + drawn)
    return 1.0 if u < won else 0.0 if u < won + lost else 0.5


def session(design, seed, *, votes=5000, width=None):
    """Simulate; the number of votes until every target is as narrow as `width`, and the points."""
    rng = np.random.default_rng(seed)
    points = np.zeros((design.models, design.models))
    for n in range(1, votes + 1):
        i, j = design.comparisons[next_comparison(points, design, rng.random())]
        won = vote(rng, STRENGTHS[i] - STRENGTHS[j])
        points[i, j] += won
        points[j, i] += 1 - won
        if width and n % 10 == 0 and interval_widths(points, design).max() <= width:
            return n, points
    return votes, points


@pytest.mark.parametrize(("everyone", "at_most"), [(True, 0.85), (False, 0.7)])
def test_it_saves_votes_at_equal_interval_width(everyone, at_most):
    """Measured over 6 seeds: 600 votes against 792 with everyone meeting, 710 against 1173 with
    the anchor alone.
    """

    def needed(floor):
        design = Design.against(6, everyone=everyone, floor=floor)
        return np.mean([session(design, seed, width=WIDTH)[0] for seed in range(4)])

    assert needed(0.1) <= at_most * needed(1.0)


def test_intervals_of_an_adaptive_session_hold_the_truth():
    design = Design.against(4, everyone=True)
    inside = total = 0
    for seed in range(25):
        _, points = session(design, seed, votes=300)
        games = points + points.T
        widths = interval_widths(points, design)
        # The maximum-likelihood gap, by a few fixed-point rounds on the same votes.
        fitted = np.zeros(4)
        for _ in range(500):
            chance = 1 / (1 + np.exp(fitted[None] - fitted[:, None]))
            fitted += 0.004 * (points - games * chance).sum(axis=1)
        # Davidson's ties draw a gap towards 0; the truth is what half-points converge to.
        for (i, j), width in zip(design.targets, widths, strict=True):
            gap = STRENGTHS[i] - STRENGTHS[j]
            won, lost = np.exp(gap / 2), np.exp(-gap / 2)
            share = (won + 0.25) / (won + lost + 0.5)
            truth = np.log(share / (1 - share))
            inside += abs(fitted[i] - fitted[j] - truth) <= width / 2
            total += 1
    assert inside / total >= 0.9


def test_the_floor_asks_for_every_comparison():
    design = Design.against(6, everyone=True, floor=0.2)
    _, points = session(design, 3, votes=600)
    games = points + points.T
    assert all(games[i, j] > 0 for i, j in design.comparisons)


def test_the_widest_interval_goes_first():
    points = np.zeros((3, 3))
    points[0, 1] = points[1, 0] = 40.0
    assert Design.against(3).comparisons[next_comparison(points, Design.against(3), 0.99)] == (0, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 200), min_size=16, max_size=16),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_any_votes_give_a_comparison_and_finite_widths(cells, draw, everyone):
    points = np.array(cells).reshape(4, 4)
    np.fill_diagonal(points, 0)
    design = Design.against(4, everyone=everyone)
    assert 0 <= next_comparison(points, design, draw) < len(design.comparisons)
    assert np.isfinite(interval_widths(points, design)).all()


def test_prompts_are_balanced_over_raters():
    votes, seen = Counter(), {"ann": set(), "bo": set()}
    for turn in range(30):
        rater = ("ann", "bo")[turn % 2]
        item = next_item(range(20), votes, seen[rater], lambda i: (i * 7) % 20)
        seen[rater].add(item)
        votes[item] += 1
    assert max(votes.values()) - min(votes.values()) <= 1 or max(votes.values()) == 2
    assert next_item([1], {}, {1}, lambda i: i) is None


def test_nothing_to_compare_is_said():
    with pytest.raises(UserError, match="nothing to compare"):
        Design.against(1)
