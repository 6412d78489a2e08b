"""PPO's mathematics against its definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.methods.ppo import policy_gradient as pg

numbers = st.floats(-5, 5, allow_nan=False, width=32)
shares = st.floats(0, 1, width=32)


@st.composite
def answers(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards, values and a mask of 1s and then 0s, up to 4 answers of up to 7 tokens."""
    rows, time = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    lengths = draw(st.lists(st.integers(0, time), min_size=rows, max_size=rows))
    grid = st.lists(st.lists(numbers, min_size=time, max_size=time), min_size=rows, max_size=rows)
    mask = torch.tensor([[float(t < n) for t in range(time)] for n in lengths], dtype=torch.float64)
    make = [torch.tensor(draw(grid), dtype=torch.float64) for _ in range(2)]
    return make[0], make[1], mask


@given(answers(), shares, shares)
@settings(max_examples=60, deadline=None)
def test_gae_is_the_double_sum_of_its_definition(
    made: tuple[torch.Tensor, torch.Tensor, torch.Tensor], gamma: float, lambda_: float
) -> None:
    rewards, values, mask = made
    advantages, returns = pg.gae(rewards, values, mask, gamma=gamma, lambda_=lambda_)
    for row in range(len(rewards)):
        n = int(mask[row].sum())
        r, v = rewards[row].tolist(), [*values[row][:n].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(mask.shape[1]):
            wanted = sum((gamma * lambda_) ** (u - t) * deltas[u] for u in range(t, n))
            assert advantages[row, t].item() == pytest.approx(wanted, abs=1e-8)
            back = wanted + v[t] if t < n else 0.0
            assert returns[row, t].item() == pytest.approx(back, abs=1e-8)


@given(answers(), shares)
@settings(max_examples=30, deadline=None)
def test_with_lambda_one_returns_are_discounted_rewards(
    made: tuple[torch.Tensor, torch.Tensor, torch.Tensor], gamma: float
) -> None:
    rewards, values, mask = made
    _, returns = pg.gae(rewards, values, mask, gamma=gamma, lambda_=1.0)
    for row in range(len(rewards)):
        n = int(mask[row].sum())
        for t in range(n):
            wanted = sum(gamma ** (u - t) * rewards[row, u].item() for u in range(t, n))
            assert returns[row, t].item() == pytest.approx(wanted, abs=1e-8)


def test_the_score_stands_on_the_last_token_and_divergence_on_each() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    divergence = torch.tensor([[1.0, 2.0, 9.0], [0.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
    rewards = pg.shaped_rewards(torch.tensor([10.0, 20.0, 30.0]), divergence, mask, 0.5)
    assert rewards.tolist() == [[-0.5, 9.0, 0.0], [0.0, 0.0, 19.5], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("ratio", "advantage", "wanted", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.4, False),
        (0.5, 2.0, -1.0, True),
        (1.5, -2.0, 3.0, True),
        (0.5, -2.0, 1.6, False),
    ],
)
def test_the_policy_loss_is_clipped_on_the_optimistic_side_alone(
    ratio: float, advantage: float, wanted: float, moves: bool
) -> None:
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = pg.policy_loss(new, torch.zeros(1, 1), torch.tensor([[advantage]]), 0.2)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    loss.sum().backward()
    assert new.grad is not None
    assert (new.grad.abs().item() > 0) is moves


def test_the_value_loss_takes_the_worse_of_two() -> None:
    old, returns = torch.zeros(1, 3), torch.tensor([[1.0, 1.0, -1.0]])
    new = torch.tensor([[0.1, 0.9, 0.9]])
    loss = pg.value_loss(new, old, returns, 0.2)
    assert loss[0].tolist() == pytest.approx([0.5 * 0.9**2, 0.5 * 0.8**2, 0.5 * 1.9**2])


@given(st.lists(numbers, min_size=2, max_size=9))
@settings(max_examples=40, deadline=None)
def test_entropy_is_scipys(logits: list[float]) -> None:
    from scipy.stats import entropy

    p = np.exp(np.array(logits) - max(logits))
    ours = pg.entropy(torch.tensor(logits, dtype=torch.float64)).item()
    assert ours == pytest.approx(entropy(p / p.sum()), abs=1e-9)
    assert -1e-9 <= ours <= math.log(len(logits)) + 1e-9


def test_the_divergence_estimate_is_unbiased_and_never_negative() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    estimates = pg.divergence_k3(p, q)
    assert (estimates >= 0).all()
    exact = (p.exp() * (p - q)).sum()
    assert (p.exp() * estimates).sum().item() == pytest.approx(exact.item(), rel=1e-5)


@given(answers())
@settings(max_examples=40, deadline=None)
def test_whitened_values_have_mean_zero_and_variance_one(
    made: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    values, _, mask = made
    white = pg.whitened(values, mask)
    kept, before = white[mask.bool()], values[mask.bool()]
    assert (white[~mask.bool()] == 0).all()
    if len(kept) > 1 and before.std(unbiased=False) > 0.1:
        assert kept.mean().item() == pytest.approx(0, abs=1e-6)
        assert kept.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)


def test_the_clipped_share_counts_the_unmasked_outside() -> None:
    new = torch.tensor([[0.0, 0.5, -0.5, 3.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    share = pg.clipped_share(new, torch.zeros(1, 4), mask, 0.2)
    assert share.item() == pytest.approx(2 / 3)
