"""A rollout: a policy's answers to a batch of prompts, their rewards, and what PPO learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.tokenization import as_read
from harness.core.errors import UserError
from harness.core.thoughts import PROMPT_TAIL, cut_in_thought
from trainers.methods.drawing import prompt_ids
from trainers.rewards.safety import rejection_sampled

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.rewards.mixture import RewardTable

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it was sampled: `tokens` end with the end-of-turn token where it was said.

    `safe` is False where every try was turned down: such an answer is not learned from.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    safe: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a process finds of the answers that it draws: what the policy, its value head and the
    reference make of them, each of shape (answers, longest answer) and 0 on padding, `mask` being
    1 for a token; and what the answers earned.
    """

    answers: tuple[Answer, ...]
    logp: Tensor
    values: Tensor
    reference: Tensor
    mask: Tensor
    earned: RewardTable


@dataclass(frozen=True, slots=True)
class Rollout:
    """Answers with their evidence. Tensors have shape (answers, longest answer), padded with 0."""

    answers: tuple[Answer, ...]
    mask: Tensor
    logp: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    figures: Mapping[str, float | None]


class Backend(Protocol):
    """The part of `TransformersBackend` that sampling needs."""

    tokenizer: Any

    def encode(self, text: str) -> tuple[int, ...]: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]: ...

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Any: ...


def seed_of(*parts: object) -> int:
    """A seed that depends on nothing but `parts`: 63 bits of their SHA-256."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample(
    backend: Backend,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    seed: int,
    first: int = 0,
    safe: Callable[[Sequence[str]], Sequence[bool]] | None = None,
    tries: int = 1,
) -> tuple[Answer, ...]:
    """One answer to each row's `prompt` (chat messages, or a text).

    The randomness comes from `seed` and an answer's number alone, which is `first` for the first
    row: going back to a state brings the same answers, and so does sharing the rows out over
    processes. What `safe` turns down is drawn again, up to `tries` times in all. Raises UserError
    for a prompt that the model can't take.
    """
    prompts = [tuple(prompt_ids(backend, row)) for row in rows]

    def draw(wanted: Sequence[int], attempt: int) -> list[Answer]:
        seeds = {index: seed_of(seed, attempt, first + index) for index in wanted}
        return _drawn(backend, {index: prompts[index] for index in wanted}, seeds, settings)

    def fine(answers: Sequence[Answer]) -> Sequence[bool]:
        return safe([answer.text for answer in answers]) if safe else [True] * len(answers)

    found = rejection_sampled(draw, len(rows), fine, tries)
    return tuple(replace(answer, safe=bool(good)) for answer, good in found)


def _drawn(
    backend: Backend,
    prompts: Mapping[int, tuple[int, ...]],
    seeds: Mapping[int, int],
    settings: GenerationSettings,
) -> list[Answer]:
    requests = [GenerationRequest(str(i), ids, (seeds[i],)) for i, ids in prompts.items()]
    drawn = {}
    for made in backend.generate(requests, settings):
        if made.error is not None:
            raise UserError(
                f"a prompt can't be answered in training: {made.error}",
                hint="shorten the prompts, or lower max_new_tokens",
            )
        # Where the answer ended is part of what the policy chose: the very token that it drew.
        stopped = () if made.end_id is None else (made.end_id,)
        index = int(made.request_id)
        said = made.text
        if made.finish_reason == "length":
            said = cut_in_thought(as_read(backend.tokenizer, prompts[index][-PROMPT_TAIL:]), said)
        drawn[index] = Answer(prompts[index], (*made.token_ids, *stopped), said)
    return [drawn[index] for index in prompts]


def collate(answers: Sequence[Answer], pad: int, device: Any) -> dict[str, Tensor]:
    """Prompts padded on the left and answers on the right, so that answers share their columns.

    `input_ids`, `attention_mask` and `position_ids` have shape (answers, P + T); `targets` and
    `mask` have shape (answers, T): the answers' tokens, and 1 where one is.
    """
    import torch

    longest = max(len(answer.prompt) for answer in answers)
    length = max(1, *(len(answer.tokens) for answer in answers))
    ids = torch.full((len(answers), longest + length), pad, dtype=torch.long)
    seen = torch.zeros_like(ids)
    for row, answer in enumerate(answers):
        start, end = longest - len(answer.prompt), longest + len(answer.tokens)
        ids[row, start:end] = torch.tensor(answer.prompt + answer.tokens, dtype=torch.long)
        seen[row, start:end] = 1
    positions = (seen.cumsum(dim=1) - 1).clamp(min=0)
    made = {"input_ids": ids, "attention_mask": seen, "position_ids": positions}
    made["targets"] = ids[:, longest:]
    made["mask"] = seen[:, longest:].float()
    return {name: tensor.to(device) for name, tensor in made.items()}


def of_all_processes(here: Evidence) -> Evidence:
    """The evidence of every process's answers, in the order of the processes, in each of them."""
    import torch
    from accelerate.utils import gather_object

    device = here.mask.device
    tensors = ("logp", "values", "reference", "mask")
    on_cpu = {name: getattr(here, name).cpu() for name in tensors}
    pieces: list[Evidence] = gather_object([replace(here, **on_cpu)])
    longest = max(piece.mask.shape[1] for piece in pieces)
    joined = {
        name: torch.cat([widened(getattr(piece, name), longest) for piece in pieces]).to(device)
        for name in tensors
    }
    return Evidence(
        tuple(answer for piece in pieces for answer in piece.answers),
        earned=together([piece.earned for piece in pieces]),
        **joined,
    )


def together(tables: Sequence[RewardTable]) -> RewardTable:
    """What several batches earned, as one batch's."""
    total = tuple(value for table in tables for value in table.total)
    parts = {
        name: tuple(value for table in tables for value in table.parts[name])
        for name in tables[0].parts
    }
    return replace(tables[0], total=total, parts=parts)


def widened(tensor: Tensor, width: int) -> Tensor:
    """A tensor (answers, T) with zeros up to `width` columns."""
    import torch

    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))
