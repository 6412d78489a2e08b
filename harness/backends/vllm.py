"""A model in vLLM inside this process (extra `vllm`), for one machine with GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.backends.asking import asking
from harness.backends.base import (
    Candidate,
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.limits import known_unread, why_unwritten
from harness.backends.openers import Opening
from harness.core.errors import UserError
from harness.core.types import AS_USUAL, PromptOptions
from harness.models.resolve import ModelFiles

_BATCH = 512
"""Prompts handed to the engine at once: enough to keep it full, few enough to lose little."""


class VllmBackend:
    """Answers and log-probabilities from vLLM's engine, over token ids.

    The engine batches by itself, so the last bits of an answer's probabilities may depend on what
    is answered beside it. `latency_s` is the time of the whole batch that an answer came with.
    """

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        *,
        dtype: str,
        adapter: Any = None,
        ends: frozenset[int] | None = None,
    ) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self._dtype, self._adapter = dtype, adapter
        self._ends = ends if ends is not None else tokens.end_tokens(tokenizer)
        self._frame = tokens.frame_of(tokenizer, self._ends)
        # The engine refuses a prompt as long as its window, even where nothing is to be written.
        self._max_length = int(engine.llm_engine.model_config.max_model_len) - 2

    @property
    def subject(self) -> Mapping[str, Any]:
        return subject(self._dtype)

    @property
    def max_length(self) -> int:
        return self._max_length

    @property
    def prefix_token_id(self) -> int:
        return tokens.prefix_token(self.tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        return tokens.encode(self.tokenizer, text)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        return tokens.encode_chat(self.tokenizer, messages, options)

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return answers.read(self.tokenizer, text, prompt)

    @property
    def vocabulary(self) -> str:
        return tokens.vocabulary_of(self.tokenizer)

    def as_read(self, ids: Sequence[int]) -> str:
        return tokens.as_read(self.tokenizer, ids)

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        """Answers, batch by batch, those whose prompts begin alike in one: the engine keeps what it
        has read. A prompt that does not fit the model is an error.
        """
        from vllm import SamplingParams

        asked: list[tuple[GenerationRequest, int, Any]] = []
        for request in sorted(requests, key=lambda request: request.prompt_ids):
            for position, seed in enumerate(request.seeds):
                problem = why_unwritten(len(request.prompt_ids), settings, self.max_length)
                if problem is not None:
                    yield Generation(request.id, position, (), "", "error", 0.0, error=problem)
                    continue
                sampling = SamplingParams(
                    max_tokens=settings.max_new_tokens,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    top_k=settings.top_k,
                    min_p=0.0,
                    stop=list(settings.stop) or None,
                    stop_token_ids=sorted(self._ends),
                    seed=seed & 0x7FFFFFFF,
                    logprobs=0 if settings.logprobs else None,
                    skip_special_tokens=False,
                )
                asked.append((request, position, sampling))
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            prompts = [request.prompt_ids for request, _, _ in batch]
            outputs, seconds = self._run(prompts, [sampling for _, _, sampling in batch])
            for (request, position, _), output in zip(batch, outputs, strict=True):
                yield self._answer(request, position, output.outputs[0], seconds, settings.stop)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        from vllm import SamplingParams

        possible = []
        for request in sorted(requests, key=lambda r: (*r.context_ids, *r.target_ids)):
            known = known_unread(request, self.max_length)
            if known is not None:
                yield known
            else:
                possible.append(request)
        sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        for start in range(0, len(possible), _BATCH):
            batch = possible[start : start + _BATCH]
            prompts = [(*request.context_ids, *request.target_ids) for request in batch]
            outputs, seconds = self._run(prompts, [sampling] * len(batch))
            for request, output in zip(batch, outputs, strict=True):
                yield _likelihood(request, output.prompt_logprobs, seconds)

    def _run(
        self, prompts: Sequence[Sequence[int]], sampling: Sequence[Any]
    ) -> tuple[list[Any], float]:
        began = time.monotonic()
        given = [{"prompt_token_ids": list(ids)} for ids in prompts]
        outputs = self.engine.generate(
            given, list(sampling), use_tqdm=False, lora_request=self._adapter
        )
        return list(outputs), time.monotonic() - began

    def _answer(
        self,
        request: GenerationRequest,
        position: int,
        output: Any,
        seconds: float,
        stops: Sequence[str],
    ) -> Generation:
        ids = tuple(output.token_ids)
        values = None
        if output.logprobs is not None:
            values = tuple(
                min(0.0, float(at[token].logprob))
                for token, at in zip(ids, output.logprobs, strict=True)
            )
        end = ids[-1] if ids and ids[-1] in self._ends else None
        if end is not None:
            ids, values = ids[:-1], None if values is None else values[:-1]
        said = tokens.text_of(self.tokenizer, ids, self._frame)
        text = answers.words_of(self.tokenizer, said, self._ends)
        cuts = [text.find(stop) for stop in stops if stop in text]
        text = text[: min(cuts)] if cuts else text
        reason = "length" if output.finish_reason == "length" else "stop"
        return Generation(request.id, position, ids, text, reason, seconds, values, end_id=end)


def subject(dtype: str) -> dict[str, Any]:
    """What is being compared, known before the engine is started."""
    return {"backend": "vllm", "dtype": dtype, "quantisation": None, "device": "cuda"}


def open_candidate(asked: Opening) -> Candidate:
    """The opener of `vllm:MODEL`, a folder or a hub id. Raises UserError where there is none."""
    from harness.models.resolve import resolve

    dtype = asked.hardware.dtype
    files = resolve(asked.rest, asked.workspace, base=asked.base, say=asked.say)
    told = {k: v for k, v in asking(files, asked.workspace).items() if k != "attention"}
    return Candidate(
        asked.name, files.digest, {**subject(dtype), **told}, lambda: open_vllm(files, dtype=dtype)
    )


def open_vllm(files: ModelFiles, *, dtype: str) -> VllmBackend:
    """Start the engine on a model's files. Raises UserError where the extra is not installed."""
    try:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise UserError(
            f"vLLM is not installed: {error}", hint="pip install 'ratchet-eval[vllm]'"
        ) from None
    from transformers import AutoTokenizer

    from harness.models.architecture import generation_ends

    engine = LLM(
        model=str(files.folder),
        tokenizer=str(files.tokenizer),
        dtype=dtype,
        # Otherwise the model's generation_config.json would set defaults for sampling.
        generation_config="vllm",
        enable_lora=files.adapter is not None,
        seed=0,
    )
    adapter = LoRARequest("adapter", 1, str(files.adapter)) if files.adapter else None
    tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
    ends = tokens.end_tokens(tokenizer, *generation_ends(files.folder))
    return VllmBackend(engine, tokenizer, dtype=dtype, adapter=adapter, ends=ends)


def _likelihood(request: LogprobRequest, read: Any, seconds: float) -> Logprobs:
    """One value per target: vLLM gives a mapping from token id per position, None for the first."""
    first = len(request.context_ids)
    values = tuple(
        min(0.0, float(read[first + n][token].logprob))
        for n, token in enumerate(request.target_ids)
    )
    return Logprobs(request.id, values, seconds)
