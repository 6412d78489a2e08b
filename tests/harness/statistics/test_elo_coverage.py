"""Elo intervals in worlds whose truth is known: they hold it as often as they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from harness.statistics.elo import CENTER, POINTS, rate

QUICK, ALL = 40, 1000
"""Worlds of a kind in `make test`, and in `make test-all`."""


@dataclass(frozen=True)
class World:
    """Models with normal strengths of spread `spread` (log-odds) and `votes` between them.

    A vote of one of `raters` (0: nobody is named) repeats what that rater thinks of the pair with
    probability `alike`, so that votes are clustered and each has the chance the strengths give.
    """

    models: int
    spread: float
    votes: int
    raters: int = 0
    alike: float = 0.0

    def drawn(self, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
        strength = rng.normal(size=self.models) * self.spread
        left = rng.integers(0, self.models, self.votes)
        right = (left + rng.integers(1, self.models, self.votes)) % self.models
        chance = rng.random(self.votes)
        columns = {}
        if self.raters:
            rater = rng.integers(0, self.raters, self.votes)
            low, high = np.minimum(left, right), np.maximum(left, right)
            own = rng.random((self.raters, self.models, self.models))[rater, low, high]
            thinks = np.where(left < right, own, 1 - own)
            chance = np.where(rng.random(self.votes) < self.alike, thinks, chance)
            columns["rater"] = rater
        won = chance < 1 / (1 + np.exp(strength[right] - strength[left]))
        names = np.array([f"m{i}" for i in range(self.models)])
        choice = np.where(won, "left", "right")
        return pd.DataFrame(
            {"left": names[left], "right": names[right], "choice": choice, **columns}
        ), strength


WORLDS = {
    "one vote": World(2, 0.7, 1),
    "few votes": World(2, 1.0, 8),
    "near-separable": World(2, 3.0, 12),
    "plain": World(4, 1.0, 120),
    "many near-separable": World(4, 2.5, 40),
    "two raters": World(2, 0.7, 40, raters=2, alike=0.5),
    "three raters of one mind each": World(3, 1.0, 90, raters=3, alike=1.0),
    "five raters": World(3, 1.0, 120, raters=5, alike=0.5),
    "twenty raters": World(4, 1.0, 200, raters=20, alike=0.6),
    "near-separable raters": World(4, 2.5, 100, raters=8, alike=0.6),
}


def coverage(world: World, worlds: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(worlds):
        votes, strength = world.drawn(rng)
        found = rate(votes)
        voted = [int(name[1:]) for name in found.ratings]
        for name, (low, high) in found.intervals.items():
            truth = CENTER + POINTS * (strength[int(name[1:])] - strength[voted].mean())
            assert low <= found.ratings[name] <= high
            assert low < high
            inside.append(low <= truth <= high)
    return float(np.mean(inside))


@pytest.mark.parametrize("kind", WORLDS)
def test_intervals_hold_the_truth_in_some_worlds(kind: str) -> None:
    # Of 40 worlds at .95, fewer than 34 have it once in 300 times.
    assert coverage(WORLDS[kind], QUICK, seed=1) >= 0.85


@pytest.mark.long
@pytest.mark.parametrize("kind", WORLDS)
def test_intervals_hold_the_truth_in_a_thousand_worlds(kind: str) -> None:
    assert coverage(WORLDS[kind], ALL, seed=2) >= 0.93


def test_intervals_shrink_as_one_over_the_root_of_the_votes() -> None:
    def width(votes: int) -> float:
        rng = np.random.default_rng(3)
        found = [rate(World(3, 0.5, votes).drawn(rng)[0]).intervals for _ in range(20)]
        return float(np.mean([high - low for one in found for low, high in one.values()]))

    assert width(400) / width(1600) == pytest.approx(2.0, rel=0.12)
    # And to what the theory says: 1.96 standard errors on either side.
    n, votes = 2000, pd.DataFrame({"left": ["a"] * 2000, "right": ["b"] * 2000})
    votes["choice"] = ["left", "right"] * (n // 2)
    low, high = rate(votes, anchor="b").intervals["a"]
    assert high - low == pytest.approx(2 * 1.96 * POINTS * 2 / np.sqrt(n), rel=0.05)


@pytest.mark.parametrize("ties", ["half", "davidson"])
@pytest.mark.parametrize("choices", [["left"], ["tie"], ["left", "right"], ["left"] * 30])
@pytest.mark.parametrize("rater", [None, "ann"])
def test_one_rater_and_one_vote_leave_a_wide_interval(
    ties: str, choices: list[str], rater: str | None
) -> None:
    votes = pd.DataFrame({"left": "a", "right": "b", "choice": choices})
    if rater is not None:
        votes["rater"] = rater
    found = rate(votes, ties=ties)  # type: ignore[arg-type]
    for name, (low, high) in found.intervals.items():
        assert low < found.ratings[name] < high
        assert high - low > 100


def test_one_raters_votes_count_as_one_vote_and_a_second_rater_tells_more() -> None:
    rows = [("a", "b", "left", "ann")] * 20 + [("a", "b", "right", "ann")] * 5
    votes = pd.DataFrame(rows, columns=["left", "right", "choice", "rater"])
    one = rate(votes).intervals["a"]
    alone = rate(votes.drop(columns="rater")).intervals["a"]
    votes.loc[::2, "rater"] = "bob"
    two = rate(votes).intervals["a"]
    width = [high - low for low, high in (one, two, alone)]
    assert width[0] > width[1] > width[2]
    assert width[0] > 800


def test_categories_rate_as_texts_do() -> None:
    votes, _ = World(3, 1.0, 60, raters=4).drawn(np.random.default_rng(5))
    votes["rater"] = votes["rater"].astype(str)
    assert rate(votes.astype("category")).ratings == rate(votes).ratings
    assert rate(votes.astype("category")).intervals == rate(votes).intervals
