"""How TRL's trainers draw answers: as the scorer writes them, asked and ended as it does.

TRL would hand the base's generation config on, whose filters (`min_new_tokens`, `suppress_tokens`,
`no_repeat_ngram_size` ...) change what is drawn and not what it is credited with; it stops at
fewer tokens than the scorer, so that an answer would go on past its end; it asks without the BOS
that a tokenizer puts before every text, where the chat template doesn't write it; it reads each
prompt once for each of its answers; and to rewards it gives answers without any special token, so
that the marks of a thought or a channel are lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.tokenization import as_read, beginning
from harness.core.errors import UserError
from harness.core.thoughts import PROMPT_TAIL, cut_in_thought
from harness.core.types import PromptOptions
from trainers.distributed.sharding import gathered
from trainers.methods.base import Job

OPTIONS = "_options"
"""A row's tools and arguments of the template, as JSON, beside its `prompt`."""


def prompt_ids(backend: Any, row: Mapping[str, Any]) -> list[int]:
    """The tokens of a row's `prompt` as the scorer asks it: of chat messages, or, for a base
    without a chat template, of a text. What the tokenizer puts before a text stands there once.
    """
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return [*beginning(backend.tokenizer), *backend.encode(prompt)]
    options = json.loads(row.get(OPTIONS, "{}"))
    more = (PromptOptions.of(options),) if options else ()
    return list(backend.encode_chat(prompt, *more))


def said(backend: Any, row: Mapping[str, Any], ids: Sequence[int]) -> str:
    """What was said, as the scorer reads it: rewards judge the same text as metrics do."""
    text = str(backend.said(ids))
    if ids and ids[-1] in backend.ends:
        return text
    asked = prompt_ids(backend, row)[-PROMPT_TAIL:]
    return cut_in_thought(as_read(backend.tokenizer, asked), text)


def drawing_as_scored(trainer_class: type[Any], job: Job, *, pairs: bool) -> type[Any]:
    """`trainer_class` (TRL's GRPOTrainer or RLOOTrainer), whose answers `job.backend` writes as it
    writes them for the scorer: asked with the same tokens, ended by the same, side by side, and
    with one reading of a prompt for all of its answers. Rewards judge what the scorer reads. With
    `pairs` the class wants log-probabilities beside the tokens, which only vLLM gives.
    """
    backend, stage = job.backend, job.stage.model
    by_vllm = stage.generate_on == "vllm"
    ends: frozenset[int] = backend.ends

    class Drawing(trainer_class):  # type: ignore[misc]
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            all_ends: list[int] = sorted({*ends, *getattr(self, "eos_token_ids", ())})
            self.eos_token_ids = all_ends

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            self._asked = inputs
            return super()._generate_and_score_completions(inputs)

        def _tokenize_prompts(self, prompts: Any) -> Any:
            # TRL hands on no more than the messages, in the order of the rows.
            return [prompt_ids(backend, row) for row in self._asked], None, {}

        def _generate_single_turn(self, prompts: Sequence[Sequence[int]], *rest: Any) -> Any:
            if by_vllm:
                return super()._generate_single_turn(prompts, *rest)
            settings = GenerationSettings(stage.max_new_tokens, stage.temperature)
            with gathered(self):
                drawn = _drawn(backend, prompts, settings)
            return (drawn, None) if pairs else drawn

        def _calculate_rewards(
            self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
        ) -> Any:
            texts = map(partial(said, backend), inputs, completion_ids_list)
            given = [
                text if isinstance(one, str) else [{"role": "assistant", "content": text}]
                for one, text in zip(completions, texts, strict=True)
            ]
            return super()._calculate_rewards(inputs, prompts, given, completion_ids_list)

    Drawing.__name__ = trainer_class.__name__
    return Drawing


def _drawn(
    backend: Any, prompts: Sequence[Sequence[int]], settings: GenerationSettings
) -> list[list[int]]:
    """An answer to each prompt, with the token that ended it; equal prompts are read once."""
    import torch

    # From the generator whose state a checkpoint holds: going back brings the same answers.
    seeds = torch.randint(2**62, (len(prompts),)).tolist()
    places: dict[tuple[int, ...], list[int]] = {}
    for place, ids in enumerate(prompts):
        places.setdefault(tuple(ids), []).append(place)
    requests = [
        GenerationRequest(str(n), ids, tuple(seeds[place] for place in each))
        for n, (ids, each) in enumerate(places.items())
    ]
    whose = list(places.values())
    found: dict[int, list[int]] = {}
    for made in backend.generate(requests, settings):
        if made.error is not None:
            raise UserError(
                f"a prompt can't be answered in training: {made.error}",
                hint="shorten the prompts, or lower max_new_tokens",
            )
        ended = () if made.end_id is None else (made.end_id,)
        found[whose[int(made.request_id)][made.position]] = [*made.token_ids, *ended]
    return [found[place] for place in range(len(prompts))]
