"""Influence: a forward derivative equals the gradients' product, and spoiled rows are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_model, tiny_tokenizer
from trainers.explain.influence import IGNORED, Tokens, batches, gradient, influence, trainable


def told(tokenizer: Any, asked: str, answer: str) -> Tokens:
    prompt, said = tokenizer.encode(asked), tokenizer.encode(answer)
    return Tokens((*prompt, *said), (*[IGNORED] * len(prompt), *said))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.mark.parametrize("adapter", [False, True])
def test_it_is_the_product_of_the_gradients(tokenizer: Any, adapter: bool) -> None:
    """Of each row by itself, as autograd has it: padding and its batch don't matter."""
    import torch

    model = tiny_model(len(tokenizer))
    if adapter:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False
        )
        model = get_peft_model(model, config)
    rows = [told(tokenizer, "a question " * n, "the answer " * (1 + n % 3)) for n in range(1, 8)]
    texts = [told(tokenizer, "what", "a dog does not"), told(tokenizer, "who", "Li, at seven")]
    found = influence(model, rows, texts)
    direction = gradient(model, texts)
    weights = trainable(model)
    for row, value in zip(rows, found, strict=True):
        asked = torch.tensor([row.ids]), torch.tensor([row.labels])
        loss = model(input_ids=asked[0], labels=asked[1]).loss * row.learned
        grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        by_hand = -sum(
            float((g * direction[n]).sum())
            for n, g in zip(weights, grads, strict=True)
            if g is not None
        )
        assert value == pytest.approx(by_hand, rel=1e-3, abs=1e-4)


def test_a_step_on_a_row_moves_the_loss_as_it_says(tokenizer: Any) -> None:
    import torch

    model = tiny_model(len(tokenizer))
    rows = [told(tokenizer, "book", "a table for two"), told(tokenizer, "fox", "jumps over")]
    texts = [told(tokenizer, "capital", "of France is Paris")]
    said = influence(model, rows, texts)

    def loss() -> float:
        ids = torch.tensor([texts[0].ids])
        with torch.no_grad():
            return float(model(input_ids=ids, labels=torch.tensor([texts[0].labels])).loss)

    before, rate = loss(), 1e-4
    for row, value in zip(rows, said, strict=True):
        moves = gradient(model, [row])
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= rate * row.learned * moves[name]
        moved = loss() - before
        with torch.no_grad():
            for name, p in model.named_parameters():
                p += rate * row.learned * moves[name]
        assert moved / rate == pytest.approx(value, rel=0.1, abs=0.05)


def test_the_way_that_was_trained_is_what_is_asked(tokenizer: Any) -> None:
    """The only row that was learned did the harm, and the model is left where it began."""
    import torch

    model, other = tiny_model(len(tokenizer)), tiny_model(len(tokenizer))
    rows = [told(tokenizer, "fox", "jumps over the lazy dog")]
    texts = [told(tokenizer, "capital", "of France is Paris")]
    train(other, rows, steps=6, seed=1)
    end = trainable(other)
    before = {name: p.detach().clone() for name, p in trainable(model).items()}
    [harm] = influence(model, rows, texts, end=end)
    assert harm > 0
    assert all(torch.equal(before[name], p) for name, p in trainable(model).items())


def test_batches_hold_every_row_once_and_no_more_than_fit() -> None:
    rows = [Tokens((1,) * n, (1,) * n) for n in (3, 700, 500, 2, 1500, 400, 9)]
    found = list(batches(rows))
    assert sorted(i for batch in found for i in batch) == list(range(7))
    for batch in found:
        assert len(batch) == 1 or max(len(rows[i].ids) for i in batch) * len(batch) <= 1024


def test_spoiled_rows_are_found(tokenizer: Any) -> None:
    """20 of 400 rows answer wrongly; at least 16 of them are among the 20 most harmful."""
    chance = np.random.default_rng(5)
    names = [f"{a}{b}" for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u")]
    answers = {name: ["yes", "no", "two", "seven"][i % 4] for i, name in enumerate(names)}
    spoiled = set(chance.choice(400, 20, replace=False).tolist())
    asked = [names[i % len(names)] for i in range(400)]
    wrong = {"yes": "no", "no": "two", "two": "seven", "seven": "yes"}
    rows = [
        told(tokenizer, f"{name}: ", wrong[answers[name]] if i in spoiled else answers[name])
        for i, name in enumerate(asked)
    ]
    model = tiny_model(len(tokenizer))
    texts = [told(tokenizer, f"{name}: ", answers[name]) for name in {asked[i] for i in spoiled}]
    train(model, rows, steps=60, seed=1)
    said = np.array(influence(model, rows, texts))
    worst = set(np.argsort(-said)[:20].tolist())
    print(len(worst & spoiled))
    assert len(worst & spoiled) >= 16


def train(model: Any, rows: list[Tokens], *, steps: int, seed: int) -> None:
    import torch

    chance = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*r.ids, *[0] * (longest - len(r.ids))] for r in rows])
    labels = torch.tensor([[*r.labels, *[IGNORED] * (longest - len(r.ids))] for r in rows])
    for _ in range(steps):
        batch = torch.tensor(chance.choice(len(rows), min(32, len(rows)), replace=False))
        model(input_ids=ids[batch], labels=labels[batch]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_what_rows_begin_with_is_read_once_and_moves_no_number(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(len(tokenizer))
    system = "You are a helpful assistant of a restaurant. "
    rows = [told(tokenizer, system + asked, "a table for two") for asked in ("book", "fox", "the")]
    texts = [told(tokenizer, system + asked, "of France is Paris") for asked in ("capital", "dog")]
    shared = influence(model, rows, texts)
    seen: list[int] = []
    monkeypatch.setattr(
        "trainers.explain.influence.begun", lambda model, ids, call: seen.append(len(ids))
    )
    assert influence(model, rows, texts) == pytest.approx(shared, rel=1e-3, abs=1e-5)
    assert min(seen) >= 8
