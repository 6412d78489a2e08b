"""Text to token ids, the same way for every backend that has the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of plain text, without special tokens."""
    # A lone surrogate, which JSON can carry, is not text that a tokenizer takes.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return tuple(tokenizer.encode(whole, add_special_tokens=False))


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Token ids of chat messages through the tokenizer's chat template, up to where the assistant
    answers. A model without a template gets the messages' contents, one a line.
    """
    if not tokenizer.chat_template:
        return encode(tokenizer, "\n".join(message["content"] for message in messages) + "\n")
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
    )
    return encode(tokenizer, text)


def prefix_token(tokenizer: Any, otherwise: int = 0) -> int:
    """The token to put before the first of a text: BOS, else EOS, else `otherwise`."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return otherwise
