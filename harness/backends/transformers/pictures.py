"""A transformers model of images and text in this process, asked about pictures."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.backends import tokenization as tokens
from harness.backends.base import (
    BlindError,
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.limits import why_unwritten
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.causal import evaluating
from harness.core.errors import UserError
from harness.core.quiet import quiet_libraries
from harness.core.types import AS_USUAL, PromptOptions
from harness.models.resolve import PROCESSOR, ModelFiles

_UNREADABLE = (OSError, ValueError, TypeError, RuntimeError, KeyError, IndexError)
"""What Pillow, a processor or a model raises on a picture that it can't take."""


def require_sight(files: ModelFiles) -> None:
    """Raise BlindError where a model reads no pictures, by its files alone."""
    config = json.loads((files.folder / "config.json").read_text(encoding="utf-8"))
    if "vision_config" not in config:
        raise BlindError(f"its config is of a {config.get('model_type', 'text')!r}, without vision")
    if not any((files.folder / name).is_file() for name in PROCESSOR):
        raise BlindError(f"its folder has no {PROCESSOR[0]}, which says how pictures are read")


class PictureBackend(TransformersBackend):
    """As `TransformersBackend`; a prompt that shows pictures goes through the model's processor and
    is answered by itself, by the model's own `generate`.

    That is slower than what text alone gets: no two such prompts share a batch or a beginning. An
    answer hangs on its prompt, its pictures, the settings and its own seed.
    """

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        super().__init__(model, tokenizer)
        self._folder = folder
        self._texts: dict[tuple[int, ...], str] = {}
        if not tokenizer.chat_template:
            tokenizer.chat_template = getattr(self._processor, "chat_template", None)

    @cached_property
    def _processor(self) -> Any:
        import transformers

        automatic: Any = transformers.AutoProcessor
        try:
            with quiet_libraries():
                return automatic.from_pretrained(self._folder)
        except (*_UNREADABLE, ImportError, AttributeError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"the processor of pictures can't be loaded: {said}",
                file=self._folder,
                hint="copy the folder again, with its processor's files",
            ) from error

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        """As the template writes it: a picture is the one token that stands for it there."""
        ids = super().encode_chat(messages, options)
        if any("parts" in message for message in messages):
            text = tokens.written(self.tokenizer, messages, options)
            begun = tokens.beginning(self.tokenizer)
            added = begun if tokens.encode(self.tokenizer, text) != ids else ()
            self._texts[ids] = tokens.as_read(self.tokenizer, added) + text
        return ids

    def answer(
        self,
        requests: Sequence[GenerationRequest],
        settings: GenerationSettings,
        given: Sequence[LogprobRequest],
    ) -> Iterator[Generation | Logprobs]:
        seeing = [request for request in requests if request.pictures]
        rest = [request for request in requests if not request.pictures]
        if rest or given:
            yield from super().answer(rest, settings, given)
        with evaluating(self.model):
            for request in seeing:
                yield from self._seen(request, settings)

    def _seen(
        self, request: GenerationRequest, settings: GenerationSettings
    ) -> Iterator[Generation]:
        """The answers to one prompt; greedy ones are all the same, and written once."""
        try:
            inputs = self._inputs(request)
            length = int(inputs["input_ids"].shape[1])
            problem = why_unwritten(length, settings, self.max_length)
            if problem is not None:
                raise ValueError(problem)
            first: Generation | None = None
            for position, seed in enumerate(request.seeds):
                if first is None or settings.temperature > 0:
                    first = self._written(request.id, inputs, settings, seed)
                yield replace(first, position=position)
        except _UNREADABLE as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            for position in range(len(request.seeds)):
                yield Generation(request.id, position, (), "", "error", 0.0, error=said)

    def _inputs(self, request: GenerationRequest) -> Any:
        from PIL import Image

        shown = [Image.open(io.BytesIO(one.read())).convert("RGB") for one in request.pictures]
        inputs = self._processor(
            text=[self._texts[request.prompt_ids]],
            images=shown,
            return_tensors="pt",
            add_special_tokens=False,
        )
        return inputs.to(self._causal.device, dtype=self.model.dtype)

    def _written(
        self, name: str, inputs: Any, settings: GenerationSettings, seed: int
    ) -> Generation:
        import torch

        device = self._causal.device
        began = time.perf_counter()
        with (
            torch.inference_mode(),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(seed % 2**63)
            found = self.model.generate(**inputs, generation_config=self._how(settings))
        took = time.perf_counter() - began
        written = found.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        end = next((i for i, token in enumerate(written) if token in self._ends), None)
        ids = tuple(written[:end])
        text = self.said(ids)
        cuts = [text.find(mark) for mark in settings.stop if mark in text]
        if cuts:
            text = text[: min(cuts)]
        logprobs = None
        if settings.logprobs:
            told = (
                torch.log_softmax(row[0].float(), dim=-1)[token]
                for row, token in zip(found.logits, ids, strict=False)
            )
            logprobs = tuple(min(0.0, float(value)) for value in told)
        return Generation(
            request_id=name,
            position=0,
            token_ids=ids,
            text=text,
            finish_reason="length" if end is None and not cuts else "stop",
            latency_s=took,
            logprobs=logprobs,
            end_id=None if end is None or cuts else written[end],
        )

    def _how(self, settings: GenerationSettings) -> Any:
        """The settings in transformers' words; nothing of the model's own habits beside them."""
        import transformers

        config: Any = transformers.GenerationConfig
        sampled: dict[str, Any] = {"do_sample": settings.temperature > 0}
        if settings.temperature > 0:
            sampled |= {
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "top_k": settings.top_k,
            }
        ends = sorted(self._ends)
        return config(
            **sampled,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=ends or None,
            pad_token_id=self.tokenizer.pad_token_id or (ends[0] if ends else None),
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            num_beams=1,
            return_dict_in_generate=True,
            output_logits=settings.logprobs,
        )
