"""What every backend offers: generated tokens, and log-probabilities of given tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from harness.core.types import AS_USUAL, Picture, PromptOptions


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to sample. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 switch those filters off.

    `stop` are strings before which an answer ends; `logprobs` asks for each token's ln p too.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, answered once per seed. All seeds of a request share one prefill.

    `pictures` are those that the prompt shows, in order. A backend that reads none is given none:
    `Candidate.see` opens one that does.
    """

    id: str
    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer. `position` is the index into the request's seeds.

    `token_ids` exclude the token that ended the turn, which is `end_id` (None where a stop string
    or the length ended it, or where it is not known). `text` is without the tokens that frame an
    answer (see `tokenization`) and ends before a stop string. `finish_reason`: `stop`, `length` or
    `error` (then `error` says why). `latency_s` is seconds to the last token, `first_token_s` to
    the first, where it is measured.
    """

    request_id: str
    position: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    latency_s: float
    logprobs: tuple[float, ...] | None = None
    error: str | None = None
    first_token_s: float | None = None
    end_id: int | None = None


@dataclass(frozen=True, slots=True)
class LogprobRequest:
    """Score `target_ids` given `context_ids` (at least one token, BOS or the prefix token)."""

    id: str
    context_ids: tuple[int, ...]
    target_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Logprobs:
    """ln p of each target token given all tokens before it; same length as `target_ids`."""

    request_id: str
    logprobs: tuple[float, ...]
    latency_s: float
    error: str | None = None


class Backend(Protocol):
    """A model that answers. Results come in the order in which they finish.

    What can't be answered is a result with an `error`, not an exception. A backend that can't give
    every kind of answer also has `refuses(kind) -> str | None`: why it can't give that kind. One
    that knows in which tokens its model is asked also is `KnowsTokens`.
    """

    @property
    def subject(self) -> Mapping[str, Any]:
        """What is being compared: backend, dtype, quantisation, device (JSON types)."""
        ...

    @property
    def max_length(self) -> int:
        """The longest sequence, prompt and answer together, in tokens."""
        ...

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        """Token ids of a chat prompt, ready for the assistant's answer. Options that are as usual
        are not given.
        """
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, without special tokens."""
        ...

    @property
    def prefix_token_id(self) -> int:
        """The token that is put before the first of a text (BOS, else EOS)."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        """One answer for each seed of each request."""
        ...

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """The log-probabilities of each request's targets."""
        ...


@runtime_checkable
class KnowsTokens(Protocol):
    """A backend whose token ids are what the model really reads: runs can be held to the same."""

    @property
    def vocabulary(self) -> str:
        """A short name without a colon; ids of two backends mean the same where it is the same."""
        ...

    def as_read(self, ids: Sequence[int]) -> str:
        """Token ids of a prompt as text, special tokens written out."""
        ...


@runtime_checkable
class ReadsAnswered(Protocol):
    """A backend that reads a prompt once where it is answered and begins given texts as well."""

    def answer(
        self,
        requests: Sequence[GenerationRequest],
        settings: GenerationSettings,
        given: Sequence[LogprobRequest],
    ) -> Iterator[Generation | Logprobs]:
        """What `generate` gives for the requests, and `logprobs` for the given texts."""
        ...


@runtime_checkable
class KnowsAnswers(Protocol):
    """A backend that knows what its model writes before an answer's own words."""

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(tokens between the prompt and the given answer to it, the answer's tokens); without
        `prompt`, behind one as the chat template writes it unasked.
        """
        ...


def encode_answer(
    backend: Backend, text: str, prompt: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A given answer as `backend` reads it behind a prompt: see `KnowsAnswers`."""
    if isinstance(backend, KnowsAnswers):
        return backend.encode_answer(text, prompt)
    return (), backend.encode(text)


class BlindError(Exception):
    """A model reads no pictures; the message says how that is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be scored: its name, the digest of its bytes, and how to open it.

    `open` is called only when something has to be generated. `subject` says what is being
    compared (backend, dtype, quantisation) and is part of what answers are cached under.
    `tokenizer` gives the model's tokenizer alone, where it is on this machine: a prompt that its
    chat template refuses is told before the weights are loaded. `see` gives what opens it so
    that it reads pictures, and raises BlindError where it reads none; None where nobody knows how.
    """

    name: str
    digest: str
    subject: Mapping[str, Any]
    open: Callable[[], Backend]
    tokenizer: Callable[[], Any] | None = None
    see: Callable[[], Callable[[], Backend]] | None = None
