"""Streams of rows: what is drawn when, how often, and always the same for the same seed."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from trainers.config.curriculum import (
    available,
    class_weights,
    column_of,
    own_perplexity,
    paced,
    weighted,
)
from trainers.config.data_schema import CurriculumModel
from trainers.config.recipe import Example

EASY = CurriculumModel(by="level", start=0.25, full_at=0.5)


@given(st.floats(0, 1), st.floats(0, 1))
def test_ever_more_rows_are_available(a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert EASY.start <= available(early, EASY) <= available(late, EASY) <= 1
    assert available(0, EASY) == pytest.approx(0.25)
    assert available(0.5, EASY) == 1


@given(
    st.lists(st.floats(-9, 9), min_size=1, max_size=30),
    st.integers(1, 90),
    st.integers(0, 5),
    st.sampled_from(["easy", "hard"]),
)
@settings(max_examples=60, deadline=None)
def test_a_draw_is_of_what_is_available(
    difficulty: list[float], length: int, seed: int, first: str
) -> None:
    model = CurriculumModel.model_validate({**EASY.model_dump(), "first": first})
    drawn = list(islice(paced(difficulty, model, length=length, seed=seed), length))
    assert drawn == list(islice(paced(difficulty, model, length=length, seed=seed), length))
    ranked = sorted(difficulty, reverse=first == "hard")
    for at, row in enumerate(drawn):
        reach = max(1, math.ceil(available(at / length, model) * len(ranked) - 1e-9))
        hardest = ranked[reach - 1]
        assert difficulty[row] <= hardest if first == "easy" else difficulty[row] >= hardest


def test_once_all_is_available_every_row_comes_equally_often() -> None:
    stream = paced(list(range(10)), EASY, length=20, seed=1)
    list(islice(stream, 40))
    later = Counter(islice(stream, 50))
    assert set(later.values()) <= {4, 5, 6}
    assert len(later) == 10


def test_easy_rows_come_first() -> None:
    drawn = list(islice(paced(list(range(100)), EASY, length=100, seed=3), 100))
    assert max(drawn[:10]) < 50
    assert sum(drawn[:25]) < sum(drawn[50:75])


@given(st.lists(st.sampled_from("aab"), min_size=1, max_size=40), st.floats(0, 1))
def test_class_weights_have_mean_one(labels: list[str], power: float) -> None:
    found = class_weights(labels, power)
    assert sum(found) == pytest.approx(len(labels))
    if power == 0:
        assert found == pytest.approx([1.0] * len(labels))


def test_at_power_one_classes_are_drawn_equally_often() -> None:
    labels = ["common"] * 90 + ["rare"] * 10
    drawn = Counter(labels[i] for i in islice(weighted(class_weights(labels), seed=2), 1000))
    assert abs(drawn["rare"] - 500) <= 10


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=20).filter(lambda w: sum(w) > 0.01),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_in_each_pass_a_row_comes_its_share_of_times(weights: list[float], seed: int) -> None:
    n = len(weights)
    stream = weighted(weights, seed=seed)
    for _ in range(3):
        times = Counter(islice(stream, n))
        for row, weight in enumerate(weights):
            expected = n * weight / sum(weights)
            assert math.floor(expected - 1e-6) <= times[row] <= math.ceil(expected + 1e-6)


def test_what_cannot_be_ordered_by() -> None:
    rows = [Example(0, "r1", columns={"level": "3"}), Example(0, "r2", columns={"other": 1})]
    assert column_of(rows[:1], "level") == [3.0]
    with pytest.raises(UserError, match="row 'r2' has no finite number in 'level'"):
        column_of(rows, "level")
    with pytest.raises(UserError, match="not a finite number"):
        next(paced([1.0, math.nan], EASY, length=3, seed=0))
    with pytest.raises(UserError, match="positive numbers"):
        next(weighted([0.0, 0.0], seed=0))


def test_the_models_own_perplexity(tiny_llama: Path, tmp_path: Path) -> None:
    import torch

    from harness.backends.transformers.backend import TransformersBackend
    from harness.core.workspace import Workspace
    from harness.models.resolve import load, resolve

    model, tokenizer = load(resolve(str(tiny_llama), Workspace.at(tmp_path)))
    backend = TransformersBackend(model, tokenizer)
    chat = ({"role": "user", "content": "Hi"},)
    rows = [Example(0, "a", text="The lazy dog."), Example(0, "b", chat, "A table for two.")]
    found = own_perplexity(backend, rows)
    for given_ids, said, value in (
        ([backend.prefix_token_id], "The lazy dog.", found[0]),
        (list(backend.encode_chat(chat)), "A table for two.", found[1]),
    ):
        ids = torch.tensor([[*given_ids, *backend.encode(said)]])
        labels = ids.clone()
        labels[:, : len(given_ids)] = -100
        with torch.no_grad():
            wanted = math.exp(model(ids, labels=labels).loss.item())
        assert value == pytest.approx(wanted, rel=1e-4)
