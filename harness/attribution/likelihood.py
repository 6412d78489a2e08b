"""How likely a causal language model finds an answer to a question, as a function of its input."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.attribution.shared import Begun, begun, common

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 8
"""Inputs that are read at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Token ids of a prompt and of the answer behind it; `begin` to `end` are the prompt's tokens
    that are asked about: the question, without what stands before it and what the chat template
    writes behind it.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    begin: int
    end: int

    @classmethod
    def between(cls, prompt: Sequence[int], empty: Sequence[int], answer: Sequence[int]) -> Asked:
        """`empty` are the tokens of the same prompt with no question in it."""
        begin = 0
        while begin < min(len(prompt), len(empty)) and prompt[begin] == empty[begin]:
            begin += 1
        behind = 0
        most = min(len(prompt), len(empty)) - begin
        while behind < most and prompt[-1 - behind] == empty[-1 - behind]:
            behind += 1
        end = len(prompt) - behind
        return cls(tuple(prompt), tuple(answer), min(begin, end), end)

    @property
    def ids(self) -> tuple[int, ...]:
        return (*self.prompt, *self.answer)


def embedded(model: Any, asked: Asked) -> Tensor:
    """The embeddings of a prompt and its answer: shape (1, tokens, width)."""
    import torch

    ids = torch.tensor([asked.ids], device=model.device)
    found: Tensor = model.get_input_embeddings()(ids).detach()
    return found


def without(model: Any, asked: Asked) -> Tensor:
    """The same with zeros in place of each token that is asked about: a question of no words. From
    a blank's embedding, or from the mean of all, the way to the question is less smooth.
    """
    found = embedded(model, asked).clone()
    found[:, asked.begin : asked.end] = 0
    return found


def answer_logprob(
    model: Any, embeddings: Tensor, asked: Asked, begun: Begun | None = None
) -> Tensor:
    """Log p(answer | prompt) in nats, of inputs of shape (n, tokens, width): shape (n,). With
    `begun` they are those of the tokens behind it.
    """
    import torch

    given: dict[str, Any] = {"inputs_embeds": embeddings, "use_cache": False}
    given |= begun.carried(len(embeddings)) if begun is not None else {}
    # Of the answer alone: what a head of many words writes at the prompt would be thrown away.
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        given["logits_to_keep"] = len(asked.answer) + 1
    logits = model(**given).logits[:, -len(asked.answer) - 1 : -1]
    said = torch.tensor(asked.answer, device=logits.device)
    logprobs = torch.log_softmax(logits.float(), -1)
    found: Tensor = logprobs.gather(-1, said.expand(len(logits), -1)[..., None])[..., 0].sum(-1)
    return found


def begins(model: Any, asked: Asked, length: int) -> Begun | None:
    """The prompt's first `length` tokens, read once; None where the model can't go on from there
    to the same answer.
    """
    import torch

    with torch.no_grad():
        found = begun(model, asked.prompt[:length])
        if found is None:
            return None
        inputs = embedded(model, asked)
        whole = float(answer_logprob(model, inputs, asked)[0])
        went_on = float(answer_logprob(model, inputs[:, length:], asked, found)[0])
    return found if abs(whole - went_on) <= 1e-3 * (1 + abs(whole)) else None


def logprobs_of(model: Any, asked: Sequence[Asked]) -> list[float]:
    """Log p(answer | prompt) of each, in nats: what all of them begin with is read once, and those
    of one length together.
    """
    import torch

    if not asked:
        return []
    # The last of a prompt's tokens says what comes first, and is read with the answer.
    length = common([one.prompt[:-1] for one in asked]) if len(asked) > 1 else 0
    start = begins(model, asked[0], length) if length else None
    skipped = start.length if start else 0
    found = [0.0] * len(asked)
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, one in enumerate(asked):
        groups.setdefault((len(one.ids), one.answer), []).append(number)
    with torch.no_grad():
        for group in groups.values():
            for first in range(0, len(group), AT_ONCE):
                some = group[first : first + AT_ONCE]
                inputs = torch.cat([embedded(model, asked[i])[:, skipped:] for i in some])
                values = answer_logprob(model, inputs, asked[some[0]], start)
                for number, value in zip(some, values, strict=True):
                    found[number] = float(value)
    return found
