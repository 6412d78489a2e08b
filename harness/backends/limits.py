"""Whether a request fits the model (context length, features), checked before it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.backends.base import GenerationSettings, LogprobRequest, Logprobs
from harness.core.errors import UserError


def require_embeddings(texts: Iterable[tuple[int, ...]], rows: int, tokenizer: Any) -> None:
    """Raises UserError where one of these texts holds a token that a model with `rows` embeddings
    has none for: tokens were added to its tokenizer, and the model was not resized.
    """
    most = max((max(ids) for ids in texts if ids), default=0)
    if most >= rows:
        raise UserError(
            f"the model has embeddings for {rows} tokens, and {tokenizer.decode([most])!r}, which "
            f"it is asked with, is its tokenizer's number {most}",
            field="base",
            hint="resize the model's embeddings (resize_token_embeddings) and save both, or take "
            "that token out of the texts and the chat template",
        )


def why_unwritten(length: int, settings: GenerationSettings, longest: int) -> str | None:
    """Why a prompt of `length` tokens can't be answered by a model that takes `longest`; None where
    it can.
    """
    if length == 0:
        return "the prompt is empty"
    if settings.max_new_tokens < 1:
        return "max_new_tokens must be at least 1"
    return _too_long(length, longest) if length >= longest else None


def known_unread(request: LogprobRequest, longest: int) -> Logprobs | None:
    """The result that is known without the model, which takes `longest` tokens: that of no targets,
    or the error of a text that does not fit. None where the model has to be asked.
    """
    # The last token is only predicted, so that one more than the limit fits.
    length = len(request.context_ids) + len(request.target_ids) - 1
    if not request.target_ids:
        return Logprobs(request.id, (), 0.0)
    if not request.context_ids:
        return Logprobs(request.id, (), 0.0, error="the context is empty")
    if length > longest:
        return Logprobs(request.id, (), 0.0, error=_too_long(length, longest))
    return None


def _too_long(length: int, longest: int) -> str:
    return f"it has {length} tokens; the model takes {longest}"
