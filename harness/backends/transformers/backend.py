"""A transformers model in this process: loaded from files, or the one in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.backends.base import (
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.limits import known_unread, require_embeddings, why_unwritten
from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.budget import TOKENS, Budget, budget_for
from harness.backends.transformers.causal import Causal, evaluating
from harness.backends.transformers.decoding import Ending, Room, Writer
from harness.backends.transformers.kv_cache import Memory
from harness.backends.transformers.lockstep import Reread
from harness.backends.transformers.logprobs import read_whole
from harness.backends.transformers.rows import Rows
from harness.backends.transformers.shared_reading import SharedReading, text_of
from harness.backends.transformers.trial import (
    Remember,
    can_share,
    choose_memory,
    require_causal,
    side_by_side,
)
from harness.core.types import AS_USUAL, PromptOptions

# A CPU is as fast with this many tokens at a time as with more, and smaller batches need less
# padding.
_CPU_READ = 2048
# What a beginning has to save, in tokens, to be read by itself. On a GPU tokens are cheap, and what
# is started is dear: there texts are cut only where a quarter of all tokens is saved.
_WORTH, _WORTH_ON_GPU = 8, 256


class TransformersBackend:
    """Answers and log-probabilities from a causal language model and its tokenizer.

    The model may be wrapped by PEFT and may be in training: every module is put in eval mode while
    it answers and then back as it was, and no global random state is read or changed. In fp32 an
    answer depends on the prompt, the settings and its own seed, not on what shares its batch.
    A prompt that does not fit is answered with an error, never with an exception.

    `token_budget` bounds the tokens held at once (in generation with their keys and values),
    `rows` the answers written side by side; what is not given comes from the memory that is free
    when answers are asked for. `max_length` in tokens replaces the model's own limit, `look` after
    how many tokens the host looks at what was written (see `Causal.look`).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        token_budget: int | None = None,
        rows: int | None = None,
        max_length: int | None = None,
        look: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.token_budget = token_budget
        self.rows = rows
        self._causal = Causal(model, look=look)
        self._max_length = max_length or _longest(self._causal.config, tokenizer)
        self._ends = tokens.end_tokens(
            tokenizer, getattr(model, "generation_config", None), model.config, self._causal.config
        )
        self._frame = tokens.frame_of(tokenizer, self._ends)
        self._remember: Remember | None = None
        self._is_causal = False
        self._shares: bool | None = None
        self._beside: bool | None = None

    @property
    def subject(self) -> Mapping[str, Any]:
        config = self.model.config
        quantised = getattr(config, "quantization_config", None)
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        return {
            "backend": "transformers",
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "quantisation": None
            if method is None
            else str(getattr(method, "quant_method", method)),
            "attention": getattr(config, "_attn_implementation", None),
            "device": self._causal.device.type,
        }

    @property
    def tokens_read(self) -> int:
        """How many tokens the model has read so far; one that texts share counts once."""
        return self._causal.tokens_read

    @property
    def max_length(self) -> int:
        return self._max_length

    @property
    def prefix_token_id(self) -> int:
        return tokens.prefix_token(self.tokenizer, otherwise=min(self._ends, default=0))

    @property
    def ends(self) -> frozenset[int]:
        """Every token that ends an answer."""
        return self._ends

    def encode(self, text: str) -> tuple[int, ...]:
        return tokens.encode(self.tokenizer, text)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        """Token ids of chat messages (see `tokenization.encode_chat`)."""
        return tokens.encode_chat(self.tokenizer, messages, options)

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(what stands between a prompt and a given answer, its tokens): see `answers.read`."""
        return answers.read(self.tokenizer, text, prompt)

    @property
    def vocabulary(self) -> str:
        return tokens.vocabulary_of(self.tokenizer)

    def as_read(self, ids: Sequence[int]) -> str:
        return tokens.as_read(self.tokenizer, ids)

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        """Answers as they finish. The model is in eval mode until the iterator is exhausted or
        closed.
        """
        for answer in self.answer(requests, settings, []):
            assert isinstance(answer, Generation)
            yield answer

    def answer(
        self,
        requests: Sequence[GenerationRequest],
        settings: GenerationSettings,
        given: Sequence[LogprobRequest],
    ) -> Iterator[Generation | Logprobs]:
        """Answers, and log-probabilities of given texts, as they are ready: a prompt that is
        answered and begins such texts is read once, where the model's texts can be cut.
        """
        texts = []
        for text in given:
            known = known_unread(text, self.max_length)
            if known is not None:
                yield known
            else:
                texts.append(text)
        possible = []
        for request in requests:
            problem = why_unwritten(len(request.prompt_ids), settings, self.max_length)
            if problem is None:
                possible.append(request)
            else:
                yield from _refused(request, problem)
        if not possible and not texts:
            return
        self._require_known(request.prompt_ids for request in possible)
        self._require_known((*text.context_ids, *text.target_ids) for text in texts)
        with evaluating(self.model):
            self._try(writing=bool(possible))
            ending = Ending(self._ends, self.said)
            budget = self.budget
            room = Room(budget.rows, budget.tokens, self.max_length)
            memory, longest = self._memory(possible, budget.tokens), self._causal.cut_up_to
            cut = [text for text in texts if len(text_of(text)) <= longest]
            writer = Writer(self._causal, ending, room, settings, memory, cut)
            if settings.temperature > 0:
                yield from writer.write(possible)
            else:
                yield from _once_each(writer, possible)
            rest = [text for text in texts if len(text_of(text)) > longest] + writer.left
            if rest:
                yield from self._read(rest)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Log-probabilities as they are ready. A text that does not fit the model is an error."""
        for result in self.answer([], GenerationSettings(), requests):
            assert isinstance(result, Logprobs)
            yield result

    def _require_known(self, texts: Iterable[tuple[int, ...]]) -> None:
        if (rows := self._causal.embeddings) is not None:
            require_embeddings(texts, rows, self.tokenizer)

    @property
    def _at_once(self) -> int:
        """How many tokens are read in one pass."""
        most = _CPU_READ if self._causal.device.type == "cpu" else TOKENS
        return min(self.token_budget or most, most)

    @property
    def budget(self) -> Budget:
        """How much is written at once: as was said, else as the device's free memory allows."""
        causal = self._causal
        found = budget_for(causal.device, causal.token_bytes, causal.row_bytes)
        return Budget(self.rows or found.rows, self.token_budget or found.tokens)

    def _read(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Log-probabilities of requests that fit, what they share read once where that pays."""
        on_cpu, most = self._causal.device.type == "cpu", self._at_once
        longest = self._causal.cut_up_to
        whole = [r for r in requests if not self._shares or len(text_of(r)) > longest]
        rest = [r for r in requests if self._shares and len(text_of(r)) <= longest]
        if rest:
            shared = SharedReading(self._causal, rest, worth=_WORTH if on_cpu else _WORTH_ON_GPU)
            if on_cpu or shared.saved * 4 >= sum(len(text_of(r)) for r in rest):
                yield from shared.read(tokens=most)
            else:
                whole = list(requests)
        if whole:
            yield from read_whole(self._causal, whole, tokens=most)

    def _memory(self, requests: Sequence[GenerationRequest], tokens: int) -> Remember:
        """What makes the memories in which these requests are answered."""
        # What gives no numbers ends with its first token, however it is read.
        other = self._remember or (lambda rows, length: Reread(self._causal))
        if not self._beside:
            return other
        causal, most = self._causal, self._at_once
        prompts = [request.prompt_ids for request in requests]
        kept = Beginnings(causal, prompts, tokens=tokens // 4, at_once=most)

        def remember(rows: int, length: int) -> Memory:
            if length > causal.cut_up_to:
                return other(rows, length)
            return Rows(causal, rows=rows, length=length, tokens=most, beginnings=kept)

        return remember

    def said(self, ids: Sequence[int]) -> str:
        """Tokens of an answer as its own words, without what frames it."""
        said = tokens.text_of(self.tokenizer, ids, self._frame)
        return answers.words_of(self.tokenizer, said, self._ends)

    def _try(self, *, writing: bool = True) -> None:
        """Once: whether the model is causal, and what carries its state. Raises UserError."""
        import torch

        with torch.inference_mode():
            if not self._is_causal:
                require_causal(self._causal)
                self._is_causal = True
            if self._shares is None:
                self._shares = can_share(self._causal)
            if writing and self._beside is None:
                self._beside = self._shares and side_by_side(self._causal)
            if writing and self._remember is None and self._needs_other:
                self._remember = choose_memory(self._causal)

    @property
    def _needs_other(self) -> bool:
        return not self._beside or self._causal.cut_up_to < self.max_length


def _once_each(
    writer: Writer, requests: Sequence[GenerationRequest]
) -> Iterator[Generation | Logprobs]:
    """Greedy answers to one prompt are all the same: write one, and give it to every seed."""
    counts = {request.id: len(request.seeds) for request in requests}
    for answer in writer.write([replace(r, seeds=r.seeds[:1]) for r in requests if r.seeds]):
        if isinstance(answer, Logprobs):
            yield answer
            continue
        for position in range(counts[answer.request_id]):
            yield replace(answer, position=position)


def _refused(request: GenerationRequest, problem: str) -> Iterator[Generation]:
    for position in range(len(request.seeds)):
        yield Generation(request.id, position, (), "", "error", 0.0, error=problem)


def _longest(config: Any, tokenizer: Any) -> int:
    """The model's own limit; the tokenizer's where the model has none; else 2048."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    # Tokenizers without a limit say 1e30.
    limit = int(getattr(tokenizer, "model_max_length", 0) or 0)
    return limit if 0 < limit < 10**7 else 2048
