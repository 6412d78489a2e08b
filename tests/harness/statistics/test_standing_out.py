"""A part that lost more is named, and none where all lost alike."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.standing_out import standing_out

WORLDS = 200


def world(seed: int, n: int = 120, k: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """(harm of a metric that is right or wrong, parts that overlap)."""
    chance = np.random.default_rng(seed)
    harm = chance.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.5, 0.4])
    parts = (chance.random((k, n)) < chance.uniform(0.1, 0.5, (k, 1))).astype(float)
    return harm, parts


@pytest.mark.parametrize("clustered", [False, True])
def test_where_all_lost_alike_none_is_named_in_95_of_100_worlds(clustered: bool) -> None:
    named = 0
    for seed in range(WORLDS):
        harm, parts = world(seed)
        clusters = None
        if clustered:  # three samples of one kind, which lose together
            clusters = np.arange(120) // 3
            harm, parts = harm[clusters], parts[:, clusters]
        named += bool(standing_out(harm, parts, clusters=clusters, rounds=300))
    # Of 200 worlds at 5%, 18 or more come in 1 of 100 trials.
    assert named < 18


def test_without_clusters_copies_would_be_taken_for_evidence() -> None:
    """What the clusters are for: three copies of each sample must not count three times."""
    named = 0
    for seed in range(40):
        harm, parts = world(seed, n=40)
        copies = np.arange(120) // 3
        named += bool(standing_out(harm[copies], parts[:, copies], rounds=200))
    assert named > 10


def test_a_planted_part_is_named_first_and_alone() -> None:
    right = 0
    for seed in range(WORLDS // 4):
        harm, parts = world(seed)
        harm = np.where(parts[7] == 1, 1.0, np.where(harm > 0, 0.0, harm))
        found = standing_out(harm, parts, rounds=300)
        right += [each.part for each in found][:1] == [7]
        assert len(found) <= 2
        assert found[0].p <= 0.05
    assert right >= 0.95 * WORLDS // 4


def test_one_that_lost_less_is_not_named_and_nothing_is_made_of_nothing() -> None:
    harm, parts = world(1)
    gained = np.where(parts[3] == 1, -1.0, 0.0)
    assert 3 not in [each.part for each in standing_out(gained, parts[:4], rounds=300)]
    assert standing_out(np.zeros(50), np.ones((2, 50)), rounds=50) == []
    assert standing_out(harm[:2], parts[:, :2], rounds=50) == []
    assert standing_out(harm, np.zeros((0, harm.size)), rounds=50) == []
