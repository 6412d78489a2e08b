"""The token that a training learns to end an answer with: the one that the scorer stops at."""

from __future__ import annotations

from harness.backends import tokenization
from harness.core.errors import UserError
from trainers.methods.base import Job


def turn_end(job: Job) -> int:
    """What ends an answer to a prompt (`tokenization.turn_end`). Raises UserError where nothing
    does.
    """
    return _required(tokenization.turn_end(job.tokenizer, job.backend.ends), job)


def text_end(job: Job) -> int:
    """What ends a text (`tokenization.text_end`). Raises UserError where nothing does."""
    return _required(tokenization.text_end(job.tokenizer, job.backend.ends), job)


def _required(end: int | None, job: Job) -> int:
    if end is None:
        raise UserError(
            f"the base model {job.recipe.model.base} has no end token: no answer would ever end",
            file=job.recipe.path,
            field="base",
            hint="set `eos_token` in its tokenizer_config.json, or `eos_token_id` in its "
            "generation_config.json",
        )
    return end
