"""A backend without a model: answers from a function, for tests and dry runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.backends.base import (
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.core.types import AS_USUAL, PromptOptions

Answer = Callable[[str, int], str]
"""(prompt as text, seed) -> the answer."""

PREFIX = 256


class ScriptedBackend:
    """Gives scripted answers. Its tokens are UTF-8 bytes; 256 is the one before a text.

    `answers` is a function of (prompt, seed), or a mapping from a piece of the prompt to the
    answer (the first that matches, else `""`). An answer that is an exception becomes an error.
    Without `answers` it is a word that depends on prompt and seed (at temperature 0 on the prompt
    alone). `logprobs` is a function of (context, target) as texts to one natural logarithm per
    byte of the target; without it, values in [-8, 0) come from a hash. `calls` counts the
    answers given, for tests that none is asked for twice.
    """

    def __init__(
        self,
        answers: Answer | Mapping[str, str | Exception] | None = None,
        *,
        logprobs: Callable[[str, str], Sequence[float]] | None = None,
        max_length: int = 4096,
        name: str = "scripted",
    ) -> None:
        self._answers = answers
        self._logprobs = logprobs
        self._max_length = max_length
        self._name = name
        self.calls = 0

    @property
    def subject(self) -> Mapping[str, Any]:
        return {"backend": self._name, "dtype": "none", "quantisation": None, "device": "none"}

    @property
    def max_length(self) -> int:
        return self._max_length

    @property
    def prefix_token_id(self) -> int:
        return PREFIX

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode("utf-8", "replace"))

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        if options.raw:
            return self.encode("\n".join(turn["content"] for turn in messages) + options.prefill)
        told = {"tools": list(options.tools), "template": dict(options.template)}
        shown = {key: value for key, value in told.items() if value}
        lines = (f"{turn['role']}: {turn['content']}\n" for turn in messages)
        head = json.dumps(shown, ensure_ascii=False) + "\n" if shown else ""
        return self.encode(head + "".join(lines) + "assistant: " + options.prefill)

    @property
    def vocabulary(self) -> str:
        return "bytes"

    def as_read(self, ids: Sequence[int]) -> str:
        return _text(ids)

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        for request in requests:
            for position, seed in enumerate(request.seeds):
                self.calls += 1
                yield self._generation(request, position, seed, settings)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        for request in requests:
            self.calls += 1
            length = len(request.context_ids) + len(request.target_ids) - 1
            problem = None
            if request.target_ids and not request.context_ids:
                problem = "the context is empty"
            elif length > self._max_length:
                problem = f"it has {length} tokens; the model takes {self._max_length}"
            values = () if problem else self._likelihoods(request)
            yield Logprobs(request.id, values, 0.0, problem)

    def _generation(
        self, request: GenerationRequest, position: int, seed: int, settings: GenerationSettings
    ) -> Generation:
        length = len(request.prompt_ids)
        if not 0 < length < self._max_length:
            problem = f"it has {length} tokens; the model takes {self._max_length}"
            return Generation(request.id, position, (), "", "error", 0.0, error=problem)
        try:
            said = self._say(_text(request.prompt_ids), seed if settings.temperature else 0)
        except Exception as error:  # noqa: BLE001  a script may fail as a model's server would
            return Generation(request.id, position, (), "", "error", 0.0, error=str(error))
        limit = min(settings.max_new_tokens, self._max_length - length)
        ids = self.encode(said)
        finish = "stop" if len(ids) <= limit else "length"
        text = _text(ids[:limit])
        cuts = [text.find(stop) for stop in settings.stop if stop in text]
        if cuts:
            text, finish = text[: min(cuts)], "stop"
        values = None
        if settings.logprobs:
            values = _hashed(request.prompt_ids, ids[:limit])
        return Generation(request.id, position, ids[:limit], text, finish, 0.0, logprobs=values)

    def _say(self, prompt: str, seed: int) -> str:
        if self._answers is None:
            return _word(prompt, seed)
        if not isinstance(self._answers, Mapping):
            return self._answers(prompt, seed)
        said = next((said for piece, said in self._answers.items() if piece in prompt), "")
        if isinstance(said, Exception):
            raise said
        return said

    def _likelihoods(self, request: LogprobRequest) -> tuple[float, ...]:
        if self._logprobs is None:
            return _hashed(request.context_ids, request.target_ids)
        values = self._logprobs(_text(request.context_ids), _text(request.target_ids))
        return tuple(float(value) for value in values)


def _text(ids: Sequence[int]) -> str:
    return bytes(token for token in ids if token < PREFIX).decode("utf-8", "replace")


def _word(prompt: str, seed: int) -> str:
    digest = hashlib.sha256(f"{seed}|{prompt}".encode("utf-8", "replace")).hexdigest()
    return f"answer {digest[:8]}"


def _hashed(context: Sequence[int], target: Sequence[int]) -> tuple[float, ...]:
    """One value in [-8, 0) per target, from the tokens before it and itself."""
    running = hashlib.sha256(repr(tuple(context)).encode())
    values = []
    for token in target:
        running.update(f",{token}".encode())
        share = int.from_bytes(running.digest()[:7], "big") / 2**56
        values.append(-8.0 * (1.0 - share))
    return tuple(values)
