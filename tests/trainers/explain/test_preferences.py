"""The influence of pairs is DPO's own gradient along the texts' one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiny import tiny_model, tiny_tokenizer
from trainers.explain.influence import IGNORED, Tokens, gradient, trainable
from trainers.explain.preferences import Pair, pair_influence

BETA = 0.3


def told(tokenizer: Any, asked: str, said: str) -> Tokens:
    before, answer = tokenizer.encode(asked), tokenizer.encode(said)
    return Tokens((*before, *answer), (*[IGNORED] * len(before), *answer))


def test_it_is_the_derivative_of_dpo_s_loss() -> None:
    import torch
    from torch.nn.functional import logsigmoid

    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer))
    first = {name: p.detach().clone() for name, p in trainable(model).items()}
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn_like(p)
    now = {name: p.detach().clone() for name, p in trainable(model).items()}
    pairs = [
        Pair(told(tokenizer, asked, good), told(tokenizer, asked, bad))
        for asked, good, bad in (
            ("book", "a table for two", "the lazy dog"),
            ("fox", "jumps over", "book a table for seven"),
        )
    ]
    texts = [told(tokenizer, "capital", "of France is Paris")]
    found = pair_influence(model, pairs, texts, first=first, beta=BETA)
    assert all(torch.equal(p, now[name]) for name, p in trainable(model).items())
    direction = gradient(model, texts)

    def logp(row: Tokens) -> Any:
        ids, labels = torch.tensor([row.ids]), torch.tensor([row.labels])
        return -model(input_ids=ids, labels=labels).loss * row.learned

    def put(weights: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, p in trainable(model).items():
                p.copy_(weights[name])

    put(first)
    with torch.no_grad():
        began = [(logp(pair.chosen), logp(pair.rejected)) for pair in pairs]
    put(now)
    for pair, (chosen, rejected), value in zip(pairs, began, found, strict=True):
        margin = (logp(pair.chosen) - chosen) - (logp(pair.rejected) - rejected)
        grads = torch.autograd.grad(-logsigmoid(BETA * margin), list(trainable(model).values()))
        by_hand = -sum(
            float((g * direction[n]).sum()) for n, g in zip(direction, grads, strict=True)
        )
        assert value == pytest.approx(by_hand, rel=2e-3, abs=1e-4)
