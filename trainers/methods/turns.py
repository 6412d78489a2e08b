"""What a training learns of an answer: all that the model writes itself when it is asked, up to
the token at which the scorer stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError

from harness.backends import answers, tokenization
from harness.core.errors import UserError
from harness.core.types import AS_USUAL
from trainers.config.recipe import Example
from trainers.methods.base import Job
from trainers.methods.conversations import Learned, TurnsError, learned


def answered(job: Job, prompt: Sequence[int], text: str, end: int) -> list[int]:
    """What is learned of the answer `text` to `prompt`: what the chat template writes around it
    (`answers.written`), and `end`, the end of its turn.
    """
    return [*answers.written(job.tokenizer, text, job.backend.ends, prompt), end]


def turn_end(job: Job) -> int:
    """What ends an answer to a prompt (`tokenization.turn_end`). Raises UserError where nothing
    does.
    """
    return _required(tokenization.turn_end(job.tokenizer, job.backend.ends), job)


def text_end(job: Job) -> int:
    """What ends a text (`tokenization.text_end`). Raises UserError where nothing does."""
    return _required(tokenization.text_end(job.tokenizer, job.backend.ends), job)


def conversation(job: Job, example: Example) -> Learned:
    """What is learned of an example with `turns`. Raises UserError with the row's place."""
    ends = job.backend.ends
    return read_conversation(job.tokenizer, ends, example, job.recipe.model.base)


def read_conversation(tokenizer: Any, ends: frozenset[int], example: Example, base: str) -> Learned:
    """The same, with no more of the model `base` than its tokenizer and its ends."""
    try:
        return learned(
            tokenizer,
            example,
            ends=ends,
            end=tokenization.turn_end(tokenizer, ends),
            written=lambda text, asked: answers.written(tokenizer, text, ends, asked),
        )
    except TurnsError as error:
        raise UserError(
            f"row {example.row!r} can't be learned: {error}",
            file=example.file,
            line=example.line,
            hint="docs/data.md says what a chat template has to write",
        ) from None
    except (UserError, TemplateError, ValueError, TypeError, LookupError) as error:
        raise refused(error, example, base) from None


def refused(error: Exception, example: Example, base: str) -> UserError:
    """What is said of a row whose turns the base's chat template doesn't take."""
    what = error.what if isinstance(error, UserError) else str(error).strip()
    roles = ", ".join(message["role"] for message in example.turns or example.prompt)
    return UserError(
        f"the chat template of {base} can't be filled with the turns of row "
        f"{example.row!r} ({roles}): {(what or type(error).__name__).splitlines()[0]}",
        file=example.file,
        line=example.line,
        hint="leave out the turn that it refuses (for some models `system`: put its text into "
        "`user`), or mend the base's chat template",
    )


def asked_and_answered(
    job: Job, example: Example, *texts: str
) -> tuple[list[int], list[list[int]]]:
    """(the tokens of an example's prompt, those that are learned of each answer to it)."""
    if example.options is AS_USUAL and not example.answers:
        end = turn_end(job)
        prompt = example.asked(job.backend)
        return prompt, [answered(job, prompt, text, end) for text in texts]
    prompt = []
    said = []
    given = example.answers or [{"role": "assistant", "content": text} for text in texts]
    for answer in given:
        turns = (*example.prompt, answer)
        whole = conversation(job, replace(example, turns=turns, learned=(len(turns) - 1,)))
        prompt = list(whole.ids[: whole.answer])
        said.append(list(whole.ids[whole.answer :]))
    return prompt, said


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
