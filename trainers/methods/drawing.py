"""How TRL's trainers draw answers: from the policy itself, asked and ended as the scorer does it.

TRL hands the base's generation config on, whose filters (`min_new_tokens`, `suppress_tokens`,
`no_repeat_ngram_size` ...) change what is drawn and not what it is credited with; it stops at
fewer tokens than the scorer, so that an answer would go on past its end; and it asks without the
BOS that a tokenizer puts before every text, where the chat template doesn't write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.backends.tokenization import beginning


def prompt_ids(backend: Any, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
    """The tokens of a prompt as the scorer asks it: of chat messages, or, for a base without a chat
    template, of a text. What the tokenizer puts before a text stands there once.
    """
    if isinstance(prompt, str):
        return [*beginning(backend.tokenizer), *backend.encode(prompt)]
    return list(backend.encode_chat(prompt))


def drawing_as_scored(trainer_class: type[Any], backend: Any) -> type[Any]:
    """`trainer_class` (TRL's GRPOTrainer or RLOOTrainer), asking with the tokens with which
    `backend` asks, and drawing to any token at which it stops.
    """
    ends: frozenset[int] = backend.ends

    class Drawing(trainer_class):  # type: ignore[misc]
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            all_ends: list[int] = sorted({*ends, *getattr(self, "eos_token_ids", ())})
            self.eos_token_ids = all_ends
            self.generation_config.eos_token_id = all_ends
            self.generation_kwargs["eos_token_id"] = all_ends

        def _tokenize_prompts(self, prompts: Any) -> Any:
            return [prompt_ids(backend, prompt) for prompt in prompts], None, {}

        def _generate_single_turn(self, *words: Any, **named: Any) -> Any:
            with _neutral(self.accelerator.unwrap_model(self.model)):
                return super()._generate_single_turn(*words, **named)

    Drawing.__name__ = trainer_class.__name__
    return Drawing


@contextmanager
def _neutral(model: Any) -> Iterator[None]:
    """The model without wishes of its own as to how it is sampled from."""
    from transformers import GenerationConfig

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = inner.generation_config
    make: Any = GenerationConfig
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    inner.generation_config = make(**{n: getattr(own, n, None) for n in names})
    try:
        yield
    finally:
        inner.generation_config = own
