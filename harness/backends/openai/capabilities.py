"""Probes what a server really does, since many accept options that they ignore."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.backends.openai.http import NoAnswerError, RefusedError, Wire
from harness.backends.tokenization import encode
from harness.core.errors import UnfinishedError, UserError

Prompts = Literal["ids", "text", "chat"]

_SENTENCE = "The capital of France is Paris, and the capital of Italy is"
_TOLERANCE = 0.1
"""Nats by which one token's log-probability may differ between two ways of asking for it."""

_TRIES = 2

# Servers apply their own defaults (llama.cpp: min_p 0.05, top_k 40; vLLM: the model's generation
# config), so what is off must be switched off by name. No server knows all of these names, and some
# refuse those that they don't know, or one of the two ways to write "no top_k": the sets are tried
# in this order, from the one that pins most.
_NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
_EXTRAS: tuple[Mapping[str, Any], ...] = (
    {"top_k": 0, **_NEUTRAL, "add_special_tokens": False, "return_token_ids": True},
    {"top_k": -1, **_NEUTRAL, "add_special_tokens": False, "return_token_ids": True},
    {"top_k": 0, **_NEUTRAL},
    {},
)
PINNED = {"frequency_penalty": 0.0, "presence_penalty": 0.0}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was found to do.

    prompts      how it takes a prompt: token ids, text, or chat messages
    extras       settings beyond the API's own that it takes, with the values to send
    no_logprobs  why its log-probabilities can't be used; None: they can
    """

    prompts: Prompts
    extras: Mapping[str, Any]
    no_logprobs: str | None


class ShapeError(ValueError):
    """The answer is not of the form that was asked for; the message says how."""


def probe(wire: Wire, model: str, tokenizer: Any | None) -> Abilities:
    """Send small requests until one form of them works.

    A server may accept an option and ignore it, so each answer is checked rather than believed.
    Without the model's tokenizer only chat is tried, and log-probabilities can't be used. Raises
    UserError for a server that takes no form, UnfinishedError for one that does not answer.
    """
    said = "it answers no prompt"
    ids = None if tokenizer is None else encode(tokenizer, _SENTENCE)
    ways: tuple[Prompts, ...] = ("chat",) if ids is None else ("ids", "text")
    for prompts in ways:
        for extras in _EXTRAS:
            try:
                _greet(wire, model, prompts, extras, ids)
            except (RefusedError, ShapeError) as error:
                said = str(error)
            except NoAnswerError as error:
                if error.gone:
                    raise gone(wire, error) from None
                # Some servers answer with status 500 what they should refuse: try the next form of
                # prompt.
                said = str(error)
                break
            else:
                problem = _problem_of_logprobs(wire, model, prompts, extras, tokenizer)
                return Abilities(prompts, extras, problem)
    raise UserError(
        f"{wire.url} can't be used with the model {model!r}: {said}",
        hint="check the model's name, and the tokenizer where one is named",
    )


def _greet(
    wire: Wire,
    model: str,
    prompts: Prompts,
    extras: Mapping[str, Any],
    ids: Sequence[int] | None,
) -> None:
    body = {"model": model, "max_tokens": 1, "temperature": 0.0, "seed": 1, **PINNED, **extras}
    if ids is None:
        chat = {"messages": [{"role": "user", "content": _SENTENCE}]}
        read_choice(wire.post("/chat/completions", {**body, **chat}, tries=_TRIES).body, None)
    else:
        prompt = list(ids) if prompts == "ids" else _SENTENCE
        answer = wire.post("/completions", {**body, "prompt": prompt}, tries=_TRIES).body
        read_choice(answer, len(ids))


def gone(wire: Wire, error: NoAnswerError) -> UnfinishedError:
    """The error for a server that does not answer any more."""
    return UnfinishedError(
        f"the server at {wire.url} is not answering: {error}",
        hint="what was answered is kept: start the server, and run the same command again",
    )


def read_choice(answer: Any, length: int | None) -> Mapping[str, Any]:
    """The one choice of an answer. `length` is the number of tokens that the prompt has.

    Raises ShapeError where there is none, or where the server read another number of tokens than
    were sent: then it added a BOS, or has another tokenizer, and answered another prompt.
    """
    if not isinstance(answer, Mapping):
        raise ShapeError("the answer is not a JSON object")
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise ShapeError("the answer has no single choice")
    usage = answer.get("usage")
    read = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    if length is not None and isinstance(read, int) and read != length:
        raise ShapeError(
            f"the server read {read} tokens where {length} were sent: it adds some of its own, "
            "or its tokenizer is another"
        )
    choice: Mapping[str, Any] = choices[0]
    return choice


@dataclass(frozen=True, slots=True)
class Echo:
    """Log-probabilities of a prompt's own tokens, which a server calls `echo`.

    values         ln p of each token but the first, in nats
    written        the one token that the server wrote after them, as text
    written_value  its ln p
    """

    values: tuple[float, ...]
    written: str
    written_value: float


def read_echo(answer: Any, length: int) -> Echo:
    """The log-probabilities of a prompt of `length` tokens.

    Raises ShapeError unless there is one entry per token and one more, the first of them null.
    """
    logprobs = read_choice(answer, length).get("logprobs")
    logprobs = logprobs if isinstance(logprobs, Mapping) else {}
    values, written = logprobs.get("token_logprobs"), logprobs.get("tokens")
    if not isinstance(values, list) or not isinstance(written, list):
        raise ShapeError("the answer has no token_logprobs")
    if len(values) != length + 1 or len(written) != len(values):
        raise ShapeError(
            f"{len(values)} log-probabilities came where {length} tokens and one more should "
            "have them: the prompt is not echoed, or is cut into other tokens"
        )
    if values[0] is not None:
        raise ShapeError("the first token has a log-probability, with nothing before it")
    if not all(isinstance(v, int | float) and math.isfinite(v) and v < 1e-3 for v in values[1:]):
        raise ShapeError("some log-probability is not a finite number up to 0")
    rest = [min(0.0, float(value)) for value in values[1:]]
    return Echo(tuple(rest[:-1]), str(written[-1]), rest[-1])


def echo_body(model: str, prompt: Any, extras: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request for the log-probabilities of a prompt's own tokens.

    It asks for one new token too, since not every server takes a request for none.
    """
    settings = {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0, "seed": 1, "echo": True}
    return {"model": model, "prompt": prompt, "logprobs": 1, **settings, **PINNED, **extras}


def as_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text that is tokenized to just these ids. Raises ShapeError where there is none."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    if encode(tokenizer, text) != tuple(ids):
        raise ShapeError(
            "these tokens become others when they are sent as text, and the server takes no ids"
        )
    return text


def _problem_of_logprobs(
    wire: Wire, model: str, prompts: Prompts, extras: Mapping[str, Any], tokenizer: Any | None
) -> str | None:
    """Why the server's log-probabilities can't be used; None where they can."""
    if tokenizer is None:
        return "its tokens can't be counted without the tokenizer: name `weights` or `tokenizer`"

    def echo(ids: Sequence[int]) -> Echo:
        prompt = list(ids) if prompts == "ids" else as_text(tokenizer, ids)
        answer = wire.post("/completions", echo_body(model, prompt, extras), tries=_TRIES).body
        return read_echo(answer, len(ids))

    try:
        return _inconsistency(echo, tokenizer)
    except (RefusedError, ShapeError) as error:
        return str(error)
    except NoAnswerError as error:
        if error.gone:
            raise gone(wire, error) from None
        return str(error)


def _inconsistency(echo: Callable[[Sequence[int]], Echo], tokenizer: Any) -> str | None:
    """How the values of `echo` contradict each other; None where they don't.

    One value per token proves nothing: some servers give each token's value from the distribution
    after it. So two things are checked. A token's value must not change with what comes after it,
    and a token must have the same value when it is read as when the server wrote it.
    """
    ids = encode(tokenizer, _SENTENCE)
    whole = echo(ids)
    if len(set(whole.values)) == 1:
        return "every token has the same log-probability"
    for length in range(len(ids) // 2, len(ids)):
        part = echo(ids[:length])
        if any(abs(a - b) > _TOLERANCE for a, b in zip(whole.values, part.values, strict=False)):
            return "a token's log-probability changes with what comes after it"
        longer = encode(tokenizer, as_text(tokenizer, ids[:length]) + part.written)
        if len(longer) != length + 1 or longer[:length] != ids[:length]:
            continue  # it wrote a piece of a character, or the end of the turn: try another length
        read = echo(longer).values[-1]
        if abs(read - part.written_value) > _TOLERANCE:
            return (
                f"a token that it writes at {part.written_value:.2f} nats is read at {read:.2f}: "
                "the values belong to other tokens"
            )
        return None
    return "it writes nothing that could be read back, so they can't be checked"
