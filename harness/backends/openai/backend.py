"""A model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp and others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.backends.asking import begins
from harness.backends.base import (
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.limits import known_unread, why_unwritten
from harness.backends.openai.capabilities import (
    PINNED,
    Abilities,
    ShapeError,
    as_text,
    echo_body,
    gone,
    probe,
    read_choice,
    read_echo,
)
from harness.backends.openai.http import NoAnswerError, RefusedError, Reply, Wire
from harness.backends.openai.messages import asked, said, with_pictures
from harness.backends.openai.rate_limit import Budget, fan_out
from harness.core.errors import UserError
from harness.core.text_file import is_whole, without_halves
from harness.core.types import AS_USUAL, PromptOptions, ResponseKind

_MANY_IN_A_ROW = 3
"""After so many requests in a row without an answer a server counts as dead."""


class OpenAIBackend:
    """Answers and log-probabilities over HTTP, many at a time.

    With the model's `tokenizer` a prompt is rendered and tokenized here, and sent as token ids. A
    server that takes no ids gets the text that becomes just those tokens again; a prompt without
    such a text is an error, never another prompt. Without a tokenizer the messages go to the
    server's own chat template, and the "token ids" of a prompt are the bytes of their JSON.

    Every setting is sent with every request, those that are off included. An answer depends on
    its prompt and seed as far as the server honors them. What can't be answered is an error of
    that one answer; a server that is gone raises UnfinishedError, as a spent `budget` does. Times
    to the first token are not measured. `context` is the longest that the server takes, prompt and
    answer together, in tokens.
    """

    def __init__(
        self,
        wire: Wire,
        model: str,
        tokenizer: Any | None = None,
        *,
        context: int = 2048,
        budget: Budget | None = None,
        subject: Mapping[str, Any] | None = None,
        abilities: Abilities | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.wire, self.model, self.tokenizer = wire, model, tokenizer
        self.budget = budget or Budget()
        self.abilities = abilities or probe(wire, model, tokenizer)
        self._context = context
        self._subject = dict(subject or {})
        self._say = say
        self._unanswered = 0
        self._ends = tokens.end_tokens(tokenizer) if tokenizer is not None else frozenset[int]()

    @property
    def subject(self) -> Mapping[str, Any]:
        return {
            "backend": "openai",
            "dtype": "as served",
            "quantisation": None,
            "device": "remote",
            "model": self.model,
            "prompts": self.abilities.prompts,
            "pinned": {**PINNED, **self.abilities.extras},
            "context": self._context if self.tokenizer is not None else None,
            **({} if self.tokenizer is None else begins(self.tokenizer)),
            **self._subject,
        }

    @property
    def max_length(self) -> int:
        # Two less: one more token is predicted, and a request for log-probabilities writes one.
        return self._context - 2 if self.tokenizer is not None else 2**31

    @property
    def prefix_token_id(self) -> int:
        return 0 if self.tokenizer is None else tokens.prefix_token(self.tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        if self.tokenizer is None:
            return tuple(text.encode("utf-8", "replace"))
        return tokens.encode(self.tokenizer, text)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        if self.tokenizer is None:
            return self.encode(json.dumps(asked(messages, options), ensure_ascii=True))
        return tokens.encode_chat(self.tokenizer, messages, options)

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.tokenizer is None:
            return (), self.encode(text)
        return answers.read(self.tokenizer, text, prompt)

    @property
    def vocabulary(self) -> str:
        """Without a tokenizer the server's own template writes the prompt: only the messages are
        known.
        """
        return "messages" if self.tokenizer is None else tokens.vocabulary_of(self.tokenizer)

    def as_read(self, ids: Sequence[int]) -> str:
        if self.tokenizer is None:
            return bytes(ids).decode("utf-8", "replace")
        return tokens.as_read(self.tokenizer, ids)

    def refuses(self, kind: ResponseKind) -> str | None:
        """Why this server can't give answers of that kind; None where it can."""
        if kind == "generation" or self.abilities.no_logprobs is None:
            return None
        return f"log-probabilities of {self.wire.url} can't be used: {self.abilities.no_logprobs}"

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        """Answers as they come. Raises UserError for settings that the server does not take.

        What begins alike is asked one after the other, so that a server that keeps what it has read
        finds it.
        """
        if settings.top_k and "top_k" not in self.abilities.extras:
            raise UserError(
                f"the server at {self.wire.url} takes no top_k",
                field="generate.top_k",
                hint="leave top_k out of the suite's `generate:`, or use top_p",
            )
        jobs: list[Callable[[], list[Generation]]] = []
        for request in sorted(requests, key=lambda request: request.prompt_ids):
            problem = why_unwritten(len(request.prompt_ids), settings, self.max_length)
            if problem is not None:
                yield from (_failed(request, n, problem) for n in range(len(request.seeds)))
            elif settings.temperature > 0:
                jobs += [
                    partial(self._answers, request, settings, (position,))
                    for position in range(len(request.seeds))
                ]
            elif request.seeds:
                # Greedy answers to one prompt are all the same: ask once.
                jobs.append(partial(self._answers, request, settings, range(len(request.seeds))))
        for some in self._run(jobs):
            yield from some

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Log-probabilities as they come. Raises UserError where the server's can't be used."""
        problem = self.refuses("text")
        if problem is not None and requests:
            raise UserError(problem, hint="leave out perplexity and reference_nll on this server")
        jobs = []
        for request in sorted(requests, key=lambda r: (*r.context_ids, *r.target_ids)):
            known = known_unread(request, self.max_length)
            if known is not None:
                yield known
            else:
                jobs.append(partial(self._likelihood, request))
        yield from self._run(jobs)

    def most_tokens(
        self, request: GenerationRequest | LogprobRequest, settings: GenerationSettings
    ) -> tuple[int, int]:
        """The most tokens that a request can read and write, if it is answered at the first try.

        Without a tokenizer the tokens of a prompt can't be counted: its bytes are, in their place.
        """
        if isinstance(request, LogprobRequest):
            length = len(request.context_ids) + len(request.target_ids)
            return (length, 1) if request.target_ids else (0, 0)
        length = len(request.prompt_ids)
        if not request.seeds or why_unwritten(length, settings, self.max_length) is not None:
            return 0, 0
        asked = len(request.seeds) if settings.temperature > 0 else 1
        return asked * length, asked * self._most_written(length, settings)

    def _run(self, jobs: Sequence[Callable[[], Any]]) -> Iterator[Any]:
        before = self.budget.tokens
        yield from fan_out(jobs, crew=min(self.wire.pace.most, max(1, len(jobs))))
        if self.budget.tokens > before:
            self._say(f"{self.wire.url}: {self.budget.spent} so far, {self.wire.retries} retries")

    def _answers(
        self, request: GenerationRequest, settings: GenerationSettings, positions: Sequence[int]
    ) -> list[Generation]:
        try:
            path, body = self._question(request, settings, request.seeds[positions[0]])
            reply = self._ask(path, body, len(request.prompt_ids), body["max_tokens"])
            answer = self._read(reply, request, settings, path)
        except (NoAnswerError, RefusedError, ShapeError) as error:
            return [_failed(request, position, str(error)) for position in positions]
        return [
            Generation(request_id=request.id, position=position, **answer) for position in positions
        ]

    def _question(
        self, request: GenerationRequest, settings: GenerationSettings, seed: int
    ) -> tuple[str, dict[str, Any]]:
        extras = dict(self.abilities.extras)
        if settings.top_k:
            extras["top_k"] = settings.top_k
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._most_written(len(request.prompt_ids), settings),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            # Servers keep seeds in 32 bits, some of them signed.
            "seed": seed & 0x7FFFFFFF,
            "stop": list(settings.stop) or None,
            **PINNED,
            **extras,
        }
        if self.tokenizer is None:
            if settings.logprobs:
                body["logprobs"] = True
            question = json.loads(bytes(request.prompt_ids))
            if isinstance(question, str):
                return "/completions", {**body, "prompt": question}
            keys = {"messages": question} if isinstance(question, list) else question
            if request.pictures:
                try:
                    shown = with_pictures(keys["messages"], request.pictures)
                except (OSError, ValueError) as error:
                    raise ShapeError(str(error)) from error
                keys = {**keys, "messages": shown}
            return "/chat/completions", {**body, **keys}
        if settings.logprobs:
            body["logprobs"] = 1
        return "/completions", {**body, "prompt": self._prompt(request.prompt_ids)}

    def _prompt(self, ids: Sequence[int]) -> Any:
        return list(ids) if self.abilities.prompts == "ids" else as_text(self.tokenizer, ids)

    def _read(
        self, reply: Reply, request: GenerationRequest, settings: GenerationSettings, path: str
    ) -> dict[str, Any]:
        chat = path == "/chat/completions"
        choice = read_choice(reply.body, None if chat else len(request.prompt_ids))
        text = choice.get("text")
        if chat:
            text = said(choice)
        if not isinstance(text, str):
            raise ShapeError("the answer has no text")
        if not is_whole(text):
            raise ShapeError("the answer holds half a character (a lone surrogate)")
        ids = self._ids_of(choice, text)
        return {
            "token_ids": ids,
            "text": self._words(text, ids),
            "finish_reason": "length" if choice.get("finish_reason") == "length" else "stop",
            "latency_s": reply.seconds,
            "logprobs": _values(choice, len(ids)) if settings.logprobs else None,
        }

    def _words(self, text: str, ids: tuple[int, ...]) -> str:
        """An answer's own words. Servers leave special tokens out of a text, and so a part of what
        stands before the words.
        """
        if self.tokenizer is None:
            return text
        lead = answers.place_of(self.tokenizer, self._ends).lead
        written = self.encode(lead)
        if lead and ids[: len(written)] == written:
            bare = self.tokenizer.decode(list(written), skip_special_tokens=True)
            text = text.removeprefix(bare)
        return answers.words_of(self.tokenizer, text, self._ends)

    def _ids_of(self, choice: Mapping[str, Any], text: str) -> tuple[int, ...]:
        """The server's own ids where it returns them, else the text's; none without a tokenizer."""
        if self.tokenizer is None:
            return ()
        given = choice.get("token_ids")
        if not isinstance(given, list):
            return self.encode(text)
        ended = bool(given) and given[-1] in self._ends
        return tuple(given[:-1] if ended else given)

    def _likelihood(self, request: LogprobRequest) -> Logprobs:
        ids = (*request.context_ids, *request.target_ids)
        try:
            body = echo_body(self.model, self._prompt(ids), self.abilities.extras)
            reply = self._ask("/completions", body, len(ids), 1)
            values = read_echo(reply.body, len(ids)).values
        except (NoAnswerError, RefusedError, ShapeError) as error:
            return Logprobs(request.id, (), 0.0, error=without_halves(str(error)))
        return Logprobs(request.id, values[len(request.context_ids) - 1 :], reply.seconds)

    def _ask(self, path: str, body: Mapping[str, Any], read: int, written: int) -> Reply:
        """Post a request of at most `read` and `written` tokens, within the budget."""
        aside = self.budget.set_aside(read, written)
        used = (0, 0)
        try:
            reply = self.wire.post(path, body)
            used = _usage(reply.body, read, written)
            self._unanswered = 0
            return reply
        except RefusedError:
            self._unanswered = 0
            raise
        except NoAnswerError as error:
            self._unanswered += 1
            if error.gone or self._unanswered >= _MANY_IN_A_ROW:
                raise gone(self.wire, error) from None
            raise
        finally:
            self.budget.settle(aside, *used)

    def _most_written(self, length: int, settings: GenerationSettings) -> int:
        if self.tokenizer is None:
            return settings.max_new_tokens
        return min(settings.max_new_tokens, self._context - length)


def _failed(request: GenerationRequest, position: int, problem: str) -> Generation:
    return Generation(request.id, position, (), "", "error", 0.0, error=without_halves(problem))


def _usage(answer: Any, read: int, written: int) -> tuple[int, int]:
    """Tokens read and written as the server counts them; the most that was asked for where it does
    not say.
    """
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    counts = usage if isinstance(usage, Mapping) else {}
    counted = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (
        counted[0] if isinstance(counted[0], int) else read,
        counted[1] if isinstance(counted[1], int) else written,
    )


def _values(choice: Mapping[str, Any], length: int) -> tuple[float, ...] | None:
    """One ln p for each of an answer's `length` tokens; None where the server gives another number
    of values: its tokens are not ours.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping):
        return None
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
        return None
    # The token that ends the turn has a value too, in some servers.
    if len(values) not in (length, length + 1):
        return None
    return tuple(min(0.0, float(value)) for value in values[:length])
