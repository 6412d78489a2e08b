"""The next token: its distribution, its filters, and that it depends on the answer's seed only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.base import GenerationSettings
from harness.backends.transformers.sampling import choose, token_logprobs, uniforms

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=700)


def _plain(logits: list[float], draw: float, temperature: float) -> int:
    scaled = np.array(logits, dtype=np.float32).astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return int(np.searchsorted(np.cumsum(weights), draw * weights.sum(), side="right"))


@given(LOGITS, st.floats(0.001, 0.999), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=150)
def test_choose_inverts_the_cumulative_distribution(
    logits: list[float], draw: float, temperature: float
) -> None:
    chosen = choose(
        torch.tensor([logits]), [draw], GenerationSettings(temperature=temperature)
    ).item()
    # A draw on a boundary may fall to either side in another precision.
    assert chosen in {_plain(logits, draw + d, temperature) for d in (-1e-5, 0.0, 1e-5)}


@given(LOGITS, st.floats(0, 1, exclude_max=True), st.integers(1, 50), st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=150)
def test_a_filter_lets_only_the_likeliest_through(
    logits: list[float], draw: float, top_k: int, top_p: float
) -> None:
    asked = GenerationSettings(temperature=1.0, top_k=top_k, top_p=top_p)
    chosen = int(choose(torch.tensor([logits]), [draw], asked).item())
    table = torch.tensor(logits)
    kth = table.sort(descending=True).values[min(top_k, len(logits)) - 1]
    assert table[chosen] >= kth
    kept = torch.where(table >= kth, table, float("-inf")).double().softmax(0)
    # What is likelier than the chosen one does not yet fill the nucleus; logits that differ by
    # less than a float32 of their probability can hold are a tie, in either order.
    assert kept[kept > kept[chosen] * (1 + 1e-6)].sum() < top_p + 1e-5


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_no_draw_reaches_a_token_without_probability(draw: float) -> None:
    table = torch.full((1, 500), float("-inf"))
    table[0, 7] = table[0, 300] = 1.0
    chosen = choose(table, [draw], GenerationSettings(temperature=1.0)).item()
    assert chosen == (7 if draw < 0.5 else 300)


def test_frequencies_are_the_probabilities() -> None:
    table = torch.randn(1, 30, generator=torch.Generator().manual_seed(3))
    draws = uniforms(11, 20_000)
    ids = choose(table.expand(20_000, -1), draws.tolist(), GenerationSettings(temperature=1.0))
    counts = torch.bincount(ids, minlength=30).double() / 20_000
    assert torch.allclose(counts, table[0].double().softmax(0), atol=0.012)


def test_a_nucleus_of_thousands_is_found_whole() -> None:
    table = torch.linspace(0.2, 0.0, 5000)[None]
    asked = GenerationSettings(temperature=1.0, top_p=0.9)
    probabilities = table[0].double().softmax(0)
    size = int((probabilities.cumsum(0) - probabilities < 0.9).sum())
    last = int(choose(table, [1 - 1e-9], asked).item())
    assert abs(last - (size - 1)) <= 1


def test_each_seed_has_its_own_stream() -> None:
    assert uniforms(2**64 - 1, 5).tolist() == uniforms(2**64 - 1, 9)[:5].tolist()
    assert uniforms(1, 5).tolist() != uniforms(2, 5).tolist()


def test_token_logprobs_are_those_of_the_softmax() -> None:
    table = torch.randn(4, 50)
    ids = torch.tensor([0, 3, 49, 7])
    expected = table.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    assert torch.allclose(token_logprobs(table, ids), expected, atol=1e-6)


@pytest.mark.parametrize("size", [320, 4096, 49152, 50_001])
def test_thelargest_of_are_found_without_sorting_all(size: int) -> None:
    from harness.backends.transformers.sampling import largest_of

    chance = torch.Generator().manual_seed(size)
    # Rounded, so that many are equal; and one row whose largest stand beside each other.
    table = (torch.randn(6, size, generator=chance) * 50).round() / 50
    table[0, 40:300] += 9
    for count in (1, 5, 256):
        assert torch.equal(largest_of(table, count), table.topk(count, dim=-1).values)
