"""The token that a training learns to end an answer with: the one that the scorer stops at."""

from __future__ import annotations

from typing import Any

from harness.core.errors import UserError
from trainers.methods.base import Job

_SAID = "Wednesday"


def turn_end(job: Job) -> int:
    """What ends an answer to a prompt: the token that the chat template writes after the
    assistant's words, where the scorer stops at it; else the tokenizer's EOS; else any token that
    the scorer stops at. Raises UserError where there is none.
    """
    written = _written_end(job.backend)
    return text_end(job) if written is None else written


def text_end(job: Job) -> int:
    """What ends a text: the tokenizer's EOS, else a token that the scorer stops at. Raises
    UserError where there is none: nothing that is learned would ever end.
    """
    eos = job.tokenizer.eos_token_id
    if eos is not None:
        return int(eos)
    if job.backend.ends:
        return int(min(job.backend.ends))
    raise UserError(
        f"the base model {job.recipe.model.base} has no end token: no answer would ever end",
        file=job.recipe.path,
        field="base",
        hint="set `eos_token` in its tokenizer_config.json, or `eos_token_id` in its "
        "generation_config.json",
    )


def _written_end(backend: Any) -> int | None:
    if not backend.tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "Which day?"}, {"role": "assistant", "content": _SAID}]
    try:
        text: str = backend.tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # noqa: BLE001  a template is a program, and may want other turns
        return None
    after = backend.encode(text.rpartition(_SAID)[2].lstrip())
    return int(after[0]) if after and after[0] in backend.ends else None
