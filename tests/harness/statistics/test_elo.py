"""Elo points against evalica, a closed form, and data on which likelihood alone diverges."""

from __future__ import annotations

import math

import evalica
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.statistics.elo import POINTS, rate

WINNERS = {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}


def simulated(votes, models, *, ties=0.2, seed=0, tie_weight=None):
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=models)
    left = rng.integers(0, models, votes)
    right = (left + rng.integers(1, models, votes)) % models
    gap = strength[left] - strength[right]
    if tie_weight is None:
        wins = rng.random(votes) < 1 / (1 + np.exp(-gap))
        choice = np.where(rng.random(votes) < ties, "tie", np.where(wins, "left", "right"))
    else:
        total = np.exp(gap / 2) + np.exp(-gap / 2) + tie_weight
        u = rng.random(votes) * total
        choice = np.where(
            u < np.exp(gap / 2), "left", np.where(u < np.exp(gap / 2) + tie_weight, "tie", "right")
        )
    names = np.array([f"m{i}" for i in range(models)])
    table = pd.DataFrame({"left": names[left], "right": names[right], "choice": choice})
    return table, strength - strength.mean()


def table(*rows, columns=("left", "right", "choice")):
    return pd.DataFrame(rows, columns=list(columns))


@pytest.mark.parametrize("seed", range(3))
def test_equals_evalicas_bradley_terry(seed):
    votes, _ = simulated(3000, 7, seed=seed)
    scores = evalica.bradley_terry(
        votes.left, votes.right, [WINNERS[c] for c in votes.choice], tolerance=1e-12, limit=10_000
    ).scores
    points = np.log(scores) * POINTS
    points += 1000 - points.mean()
    ours = rate(votes, bootstraps=0).ratings
    assert ours == pytest.approx(points.to_dict(), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 30))
def test_two_models_have_a_closed_form(won, lost, tied):
    votes = table(
        *[("a", "b", "left")] * won, *[("b", "a", "left")] * lost, *[("a", "b", "tie")] * tied
    )
    found = rate(votes, anchor="b", bootstraps=0)
    expected = 1000 + 400 * math.log10((won + tied / 2) / (lost + tied / 2))
    assert found.ratings["b"] == 1000
    assert found.ratings["a"] == pytest.approx(expected, abs=1e-6)
    # Davidson: the odds of the decided votes, and their tie parameter from the tied ones.
    davidson = rate(votes, anchor="b", ties="davidson", bootstraps=0)
    assert davidson.ratings["a"] == pytest.approx(1000 + 400 * math.log10(won / lost), abs=1e-5)
    assert davidson.tie_weight == pytest.approx(tied / math.sqrt(won * lost), abs=1e-6)


def test_davidson_finds_the_parameters_it_was_drawn_from():
    votes, strength = simulated(60_000, 6, tie_weight=0.8, seed=4)
    found = rate(votes, ties="davidson", bootstraps=0)
    points = np.array([found.ratings[f"m{i}"] for i in range(6)])
    np.testing.assert_allclose((points - 1000) / POINTS, strength, atol=0.08)
    assert found.tie_weight == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_separable_data_do_not_diverge(ties):
    votes = table(*[("a", "b", "left")] * 500, ("c", "d", "tie"))
    found = rate(votes, ties=ties, bootstraps=20)
    assert found.separable
    assert found.ratings["a"] > found.ratings["c"] > found.ratings["b"]
    assert all(abs(points) < 5000 for points in found.ratings.values())
    assert all(math.isfinite(end) for interval in found.intervals.values() for end in interval)


def test_both_bad_ranks_nobody_and_is_counted():
    ranked = [("a", "b", "left")] * 3 + [("b", "a", "left")] * 2
    plain = rate(table(*ranked), bootstraps=0)
    mixed = rate(table(*ranked, *[("a", "c", "both_bad")] * 5, ("b", "c", "tie")), bootstraps=0)
    assert mixed.both_bad == pytest.approx({"a": 0.5, "b": 0.0, "c": 5 / 6})
    assert plain.both_bad == {"a": 0.0, "b": 0.0}
    assert mixed.games.loc["a", "c"] == 0
    assert pd.isna(mixed.win_matrix.loc["a", "c"])
    assert mixed.win_matrix.loc["a", "b"] == pytest.approx(0.6)


def test_the_order_of_votes_and_the_naming_of_sides_do_not_matter():
    votes, _ = simulated(800, 5, seed=2)
    turned = votes.rename(columns={"left": "right", "right": "left"}).assign(
        choice=votes.choice.map({"left": "right", "right": "left", "tie": "tie"})
    )
    shuffled = votes.sample(frac=1.0, random_state=1)
    plain = rate(votes, bootstraps=30)
    assert rate(shuffled, bootstraps=30).ratings == pytest.approx(plain.ratings, abs=1e-8)
    assert rate(shuffled, bootstraps=30).intervals == plain.intervals
    assert rate(turned, bootstraps=0).ratings == pytest.approx(plain.ratings, abs=1e-8)


def test_intervals_cover_and_widen_with_clusters():
    votes, strength = simulated(4000, 4, ties=0.0, seed=5)
    plain = rate(votes, bootstraps=200)
    inside = [
        low <= 1000 + POINTS * strength[i] <= high
        for i, (low, high) in enumerate(plain.intervals[f"m{i}"] for i in range(4))
    ]
    assert sum(inside) >= 3
    # Ten raters who each voted the same four hundred times over know little more than ten votes.
    block = votes.head(40).assign(rater=np.repeat(np.arange(10), 4))
    repeated = pd.concat([block] * 100)
    widths = [
        np.mean([high - low for low, high in rate(v, bootstraps=100).intervals.values()])
        for v in (repeated, repeated.drop(columns="rater"))
    ]
    assert widths[0] > 4 * widths[1]


def test_a_prompt_and_a_rater_both_cluster():
    votes, _ = simulated(600, 4, seed=6)
    votes["rater"] = [f"r{i % 12}" for i in range(600)]
    votes["prompt"] = [None if i % 50 == 0 else f"p{i % 40}" for i in range(600)]
    found = rate(votes, anchor="m0", bootstraps=50)
    assert set(found.intervals) == {"m1", "m2", "m3"}
    assert all(low < found.ratings[m] < high for m, (low, high) in found.intervals.items())


@pytest.mark.parametrize(
    ("votes", "options", "message"),
    [
        (table(("a", "b"), columns=("left", "right")), {}, "no column 'choice'"),
        (table(("a", "b", "best")), {}, "'best' is not a choice"),
        (table(("a", "a", "left")), {}, "with itself"),
        (table(("a", None, "left")), {}, "lacks the name"),
        (table(("a", "b", "both_bad")), {}, "no vote ranks"),
        (table(("a", "b", "left")), {"anchor": "z"}, "the anchor 'z'"),
        (table(), {}, "no vote ranks"),
    ],
)
def test_mistakes_are_named(votes, options, message):
    with pytest.raises(UserError, match=message):
        rate(votes, **options)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["left", "right", "tie", "both_bad"]), min_size=1, max_size=12))
def test_any_few_votes_have_davidson_ratings(choices):
    """One that never lost but tied, or nothing but ties: early in every session."""
    votes = table(*[("a", "b", choice) for choice in choices])
    if set(choices) == {"both_bad"}:
        return
    found = rate(votes, anchor="a", ties="davidson", bootstraps=10)
    assert math.isfinite(found.ratings["b"])
    assert all(map(math.isfinite, found.intervals["b"]))
    if set(choices) <= {"tie", "both_bad"}:
        assert found.ratings["b"] == pytest.approx(1000.0)
        assert found.tie_weight == math.inf
