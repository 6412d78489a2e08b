"""Puts a sample's messages through a model's chat template, and says what that refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError

from harness.backends import chat_template, tokenization
from harness.backends.base import Backend, BlindError, Candidate, GenerationRequest
from harness.core.errors import UserError
from harness.core.types import AS_USUAL, Sample
from harness.evaluation.plan import Wanted
from harness.suite.suite import Task

TEMPLATE_FAULTS = (
    *(TemplateError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""What a chat template, which is a program of the model's own, raises where it fails."""


def encoded(backend: Backend, sample: Sample) -> tuple[int, ...]:
    """Token ids of a sample's prompt. Raises what the model's chat template raises."""
    if sample.options == AS_USUAL:
        return backend.encode_chat(sample.prompt)
    return backend.encode_chat(sample.prompt, sample.options)


def prompt_ids(backend: Backend, want: Wanted) -> tuple[int, ...]:
    """The prompt through the model's chat template, which may be broken, or refuse a role."""
    try:
        return encoded(backend, want.sample)
    except TEMPLATE_FAULTS as error:
        tokenizer = getattr(backend, "tokenizer", None)
        raise refused_prompt(want.task.name, want.sample, error, tokenizer) from error


def require_prompts(candidate: Candidate, wanted: Sequence[Wanted]) -> None:
    """Render one sample of each kind of conversation, without loading weights. Raises UserError
    where the model's chat template refuses it; nothing is known of a model without a tokenizer.
    """
    if candidate.tokenizer is None:
        return
    kinds = {
        (want.task.name, tuple(turn["role"] for turn in want.sample.prompt)): want
        for want in reversed(wanted)
        if want.sample.prompt
    }
    try:
        tokenizer = candidate.tokenizer() if kinds else None
    except Exception:  # noqa: BLE001  what is wrong with it is said when the model is loaded
        return
    for want in reversed(kinds.values()):
        try:
            tokenization.written(tokenizer, want.sample.prompt, want.sample.options)
        except TEMPLATE_FAULTS as error:
            raise refused_prompt(want.task.name, want.sample, error, tokenizer) from error


def opener_for(candidate: Candidate, wanted: Sequence[Wanted]) -> Callable[[], Backend]:
    """What opens the candidate's backend, one that reads pictures where a prompt shows some. Raises
    UserError, before weights are loaded, for a model that reads text alone.
    """
    seen = next((want for want in wanted if want.sample.pictures), None)
    if seen is None:
        return candidate.open
    sample, place = seen.sample, f"tasks.{seen.task.name}"
    given = next((w for w in wanted if w.kind == "reference" and w.sample.pictures), None)
    if given is not None:
        raise UserError(
            "how likely a given answer to a picture is can't be read yet",
            field=f"tasks.{given.task.name}.metrics",
            hint="leave out the metrics that read references, such as reference_nll",
        )
    what = f"{candidate.name} reads text alone, and sample {sample.id!r} shows a picture"
    hint = "name a model of images and text, or a server that serves one (openai:URL#MODEL)"
    if candidate.see is None:
        raise UserError(what, file=seen.task.data_path, field=f"{place}.prompt", hint=hint)
    try:
        return candidate.see()
    except BlindError as error:
        raise UserError(
            f"{what}: {error}", file=seen.task.data_path, field=f"{place}.prompt", hint=hint
        ) from None


def refused_prompt(
    task: str, sample: Sample, error: Exception, tokenizer: Any | None = None
) -> UserError:
    """What to say where a model's chat template fails on a sample of a task: with the place of the
    template, where the tokenizer knows it.
    """
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    part, hint = _part(sample, tokenizer)
    file, line = chat_template.place_of(tokenizer, error)
    return UserError(
        f"the model's chat template can't render sample {sample.id!r}: {said}",
        file=file,
        line=line,
        field=f"tasks.{task}.prompt{part}",
        hint=hint,
    )


def _part(sample: Sample, tokenizer: Any | None) -> tuple[str, str]:
    """Which key of the prompt a fault belongs to, and what to do about it."""
    if sample.options.tools and _renders_without_tools(sample, tokenizer):
        names = ", ".join(tool["function"]["name"] for tool in sample.options.tools)
        return ".tools", f"ask a model whose template knows tools; this sample offers {names}"
    if sample.pictures:
        return ".messages", "its template must write parts of type `image`: take the model's own"
    roles = [message["role"] for message in sample.prompt]
    if "system" in roles:
        return ".system", "a template that knows no system turn wants its text in `user`"
    if len(roles) > 1:
        return ".messages", f"this conversation has the turns {', '.join(roles)}"
    return "", "mend the tokenizer's chat_template, or delete it: the text is then sent as it is"


def _renders_without_tools(sample: Sample, tokenizer: Any | None) -> bool:
    if tokenizer is None:
        return False
    try:
        tokenization.written(tokenizer, sample.prompt, replace(sample.options, tools=()))
    except TEMPLATE_FAULTS:
        return False
    return True


def require_room(task: Task, requests: Sequence[GenerationRequest], longest: int) -> None:
    """Raise UserError where shots leave a model of `longest` tokens no room for an answer."""
    shots = (task.protocol["prompt"] or {}).get("shots")
    if not shots or not requests:
        return
    request = max(requests, key=lambda request: len(request.prompt_ids))
    length = len(request.prompt_ids)
    if length >= longest:
        raise UserError(
            f"with {shots['n']} shots sample {request.id!r} has {length} tokens; the model takes "
            f"{longest}",
            field=f"tasks.{task.name}.prompt.shots.n",
            hint="take fewer shots, or shorter ones",
        )
