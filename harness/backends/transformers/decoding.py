"""The decoding loop: many answers side by side, each with its own seed and its own end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from harness.backends.base import (
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.kv_cache import Memory
from harness.backends.transformers.lockstep import Reread
from harness.backends.transformers.logprobs import finished
from harness.backends.transformers.rows import Rows
from harness.backends.transformers.sampling import uniforms
from harness.backends.transformers.stepping import Chooser, Stepper, Written
from harness.backends.transformers.trial import Remember

NOT_FINITE = "the model's logits are not finite: its weights are broken, or have diverged"
OUT_OF_MEMORY = "out of memory with this answer alone: use a smaller model, dtype or max_new_tokens"


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends an answer: any of `tokens`, or a stop string in the text that `text_of` makes.

    `text_of` turns token ids into text without what frames it.
    """

    tokens: frozenset[int]
    text_of: Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Room:
    """How much is written at once: `rows` side by side, and `tokens` held in memory over all rows.

    `max_length` is the longest sequence that the model takes, in tokens.
    """

    rows: int
    tokens: int
    max_length: int


Span = Literal["below", "across", "above"]
"""Where a text lies from prompt to end, seen from `Causal.turns_at`."""


@dataclass(slots=True)
class _Row:
    """One answer being written. `draws` holds its random numbers in [0, 1), one a token, all made
    from its own seed beforehand; `limit` is the most tokens that it may have.
    """

    request: GenerationRequest
    position: int
    limit: int
    draws: Any
    started: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None
    end: int | None = None
    first_token_s: float | None = None


@dataclass(slots=True)
class _Job:
    """Some of a request's answers, few enough to be written side by side.

    `need` is the most tokens that one of them takes in memory, the prompt's included.
    """

    request: GenerationRequest
    positions: tuple[int, ...]
    need: int
    span: Span


class Writer:
    """Writes the answers to a set of requests. Results come as they finish.

    `remember` makes the memory that suits this model (see `trial.choose_memory`). Of the `given`
    texts those whose contexts are prompts are read with these, where the memory can: `left` has
    those that were not.
    """

    def __init__(
        self,
        causal: Causal,
        ending: Ending,
        room: Room,
        settings: GenerationSettings,
        remember: Remember,
        given: Sequence[LogprobRequest] = (),
    ) -> None:
        self.causal = causal
        self.ending = ending
        self.room = room
        self.settings = settings
        self.remember = remember
        self._given: dict[tuple[int, ...], list[LogprobRequest]] = {}
        for text in given:
            self._given.setdefault(text.context_ids, []).append(text)
        self._rows: list[_Row] = []
        self._memory: Memory | None = None
        self._choose = Chooser(causal, settings)
        self._stepper: Stepper | None = None
        self._capacity = 0
        self._length = 0
        self._now: Span = "below"

    @property
    def left(self) -> list[LogprobRequest]:
        """The given texts that were not read so far."""
        return [text for texts in self._given.values() for text in texts]

    def write(self, requests: Sequence[GenerationRequest]) -> Iterator[Generation | Logprobs]:
        """Answers to requests whose prompts fit, in the order in which they end."""
        queue = deque(self._jobs([(r, tuple(range(len(r.seeds)))) for r in requests]))
        while queue or self._rows:
            ended: list[Generation | Logprobs] = []
            try:
                # Inference mode holds for the whole thread, and must be off while this generator
                # waits: the caller may be training.
                with torch.inference_mode():
                    if self._wants_more(queue):
                        ended += self._admit(queue)
                    else:
                        self._step()
                    ended += self._sweep()
            except torch.OutOfMemoryError:
                ended += self._retreat(queue)
            yield from ended

    def _retreat(self, queue: deque[_Job]) -> list[Generation]:
        """After running out of memory: ask again for what was being written, in half the rows.

        An answer depends on its own seed alone, so the second try gives the same answers, and only
        time is lost. An answer that was written alone and still had too little is an error.
        """
        now = time.perf_counter()
        lost, self._rows, self._memory, self._stepper = self._rows, [], None, None
        torch.cuda.empty_cache()
        if len(lost) <= 1:
            for row in lost:
                row.finish = "error"
            return [self._generation(row, now, OUT_OF_MEMORY) for row in lost]
        half = max(1, len(lost) // 2)
        self.room = replace(self.room, rows=half)
        waiting = [(job.request, job.positions) for job in queue]
        waiting += [(row.request, (row.position,)) for row in lost]
        queue.clear()
        queue.extend(self._jobs(waiting))
        return []

    def _jobs(self, wanted: Sequence[tuple[GenerationRequest, tuple[int, ...]]]) -> list[_Job]:
        """Jobs that fit the room, longest prompts first, so that a batch holds like lengths."""
        together: dict[str, tuple[GenerationRequest, list[int]]] = {}
        for request, positions in wanted:
            together.setdefault(request.id, (request, []))[1].extend(positions)
        jobs = []
        for request, each in together.values():
            need = min(len(request.prompt_ids) + self.settings.max_new_tokens, self.room.max_length)
            width = max(1, min(self.room.rows, self.room.tokens // need))
            for start in range(0, len(each), width):
                some = tuple(each[start : start + width])
                jobs.append(_Job(request, some, need, self._span(request, need)))
        return sorted(jobs, key=lambda job: (-len(job.request.prompt_ids), job.request.id))

    def _span(self, request: GenerationRequest, need: int) -> Span:
        turns_at = self.causal.turns_at
        if turns_at is None or need <= turns_at:
            return "below"
        return "above" if len(request.prompt_ids) > turns_at else "across"

    def _wants_more(self, queue: deque[_Job]) -> bool:
        """Whether to read new prompts now, rather than write one more token of each row."""
        if not queue:
            return False
        if not self._rows:
            return True
        if not (self._memory and self._memory.refillable):
            return False
        free = self._capacity - len(self._rows)
        # Reading prompts makes all rows wait, so it is done for several prompts at a time.
        enough = free >= max(len(queue[0].positions), self._capacity // 4)
        # A much shorter job waits for a buffer of its own: here it would waste half its row.
        like = queue[0].span == self._now and queue[0].need * 2 > self._length
        return enough and like

    def _admit(self, queue: deque[_Job]) -> list[Logprobs]:
        """Read the prompts of as many jobs as fit, and give each new row its first token. Returns
        what is said of the given texts that were read beside them.
        """
        head = queue[0]
        if not self._rows:
            self._length = head.need
            self._capacity = max(
                len(head.positions), min(self.room.rows, self.room.tokens // head.need)
            )
            self._now = head.span
            # A text that grows past the length has no cache: its positions change behind it.
            self._memory = (
                Reread(self.causal, refillable=False)
                if head.span == "across"
                else self.remember(self._capacity, head.need)
            )
            self._stepper = Stepper(self._choose, self._memory, rows=self._capacity)
        assert self._memory is not None
        prompts: list[tuple[int, ...]] = []
        source: list[int] = []
        fresh: list[_Row] = []
        started = time.perf_counter()
        while queue and self._fits(queue[0], head, len(self._rows) + len(fresh), len(prompts)):
            job = queue.popleft()
            source += [len(prompts)] * len(job.positions)
            prompts.append(job.request.prompt_ids)
            fresh += [self._row(job, position, started) for position in job.positions]
        self._rows += fresh
        if not (isinstance(self._memory, Rows) and self._memory.reads):
            self._begin(fresh, self._memory.admit(prompts, source))
            return []
        beside = dict.fromkeys(prompt for prompt in prompts if prompt in self._given)
        given = [text for prompt in beside for text in self._given[prompt]]
        states, values = self._memory.admit_and_read(prompts, source, given)
        for prompt in beside:
            del self._given[prompt]
        self._begin(fresh, states)
        seconds = time.perf_counter() - started
        return [finished(text, found, seconds) for text, found in zip(given, values, strict=True)]

    def _fits(self, job: _Job, head: _Job, rows: int, prompts: int) -> bool:
        if rows + len(job.positions) > self._capacity or job.need * 2 <= self._length:
            return False
        if job.span != head.span:
            return False
        size = len(job.request.prompt_ids)
        if self._memory is None or not self._memory.refillable:
            return size == len(head.request.prompt_ids)
        longest = len(head.request.prompt_ids)
        return prompts == 0 or (prompts + 1) * longest <= self.room.tokens

    def _row(self, job: _Job, position: int, started: float) -> _Row:
        limit = job.need - len(job.request.prompt_ids)
        sampled = self.settings.temperature > 0
        # All random numbers at once, from the answer's own seed: no neighbor, and no order in
        # which rows are written, can change them.
        draws = uniforms(job.request.seeds[position], limit) if sampled else None
        return _Row(job.request, position, limit, draws, started)

    def _begin(self, rows: Sequence[_Row], states: torch.Tensor) -> None:
        """Give new rows their first tokens, from the states (rows, width) at their prompts' end."""
        draws = None if self.settings.temperature == 0 else [row.draws[0] for row in rows]
        self._take(rows, self._choose.first(states, draws))

    def _step(self) -> None:
        """Write until the host looks again, or a row may have no more tokens."""
        assert self._stepper is not None
        rows = self._rows
        steps = min(self.causal.look, *(row.limit - len(row.tokens) for row in rows))
        draws = None
        if self.settings.temperature > 0:
            draws = np.stack([row.draws[len(row.tokens) :][:steps] for row in rows], axis=1)
        self._take(rows, self._stepper.run([row.tokens[-1] for row in rows], draws, steps))

    def _take(self, rows: Sequence[_Row], written: Written) -> None:
        """Give rows what was written, up to each one's end."""
        now = time.perf_counter()
        for step, tokens in enumerate(written.tokens):
            for index, (row, token) in enumerate(zip(rows, tokens, strict=False)):
                if row.finish is not None:
                    continue
                if not written.finite[step][index]:
                    row.finish = "error"
                    continue
                if token in self.ending.tokens:
                    row.finish, row.end = "stop", token
                    continue
                if not row.tokens:
                    row.first_token_s = now - row.started
                row.tokens.append(token)
                if written.logprobs is not None:
                    row.logprobs.append(written.logprobs[step][index])
                if self.settings.stop and self._stopped(row.tokens):
                    row.finish = "stop"
                elif len(row.tokens) >= row.limit:
                    row.finish = "length"

    def _stopped(self, tokens: list[int]) -> bool:
        """Whether the answer holds a stop string; at most steps only its tail is made into text."""
        reach = max(map(len, self.settings.stop)) + 8
        tail = self.ending.text_of(tokens[-reach:])
        if not any(stop in tail for stop in self.settings.stop):
            return False
        text = self.ending.text_of(tokens)
        return any(stop in text for stop in self.settings.stop)

    def _sweep(self) -> list[Generation]:
        """Take out the rows that have ended, and return their answers."""
        if not any(row.finish for row in self._rows):
            return []
        now = time.perf_counter()
        ended = [self._generation(row, now) for row in self._rows if row.finish]
        order = [index for index, row in enumerate(self._rows) if not row.finish]
        if self._memory is not None and self._memory.refillable:
            order = _close_gaps(order)
        if self._memory is not None:
            self._memory.keep(order)
        self._rows = [self._rows[index] for index in order]
        return ended

    def _generation(self, row: _Row, now: float, problem: str = NOT_FINITE) -> Generation:
        if row.finish == "error":
            return Generation(
                row.request.id, row.position, (), "", "error", now - row.started, error=problem
            )
        text = self.ending.text_of(row.tokens)
        cuts = [text.find(stop) for stop in self.settings.stop if stop in text]
        return Generation(
            request_id=row.request.id,
            position=row.position,
            token_ids=tuple(row.tokens),
            text=text[: min(cuts)] if cuts else text,
            finish_reason=row.finish or "length",
            latency_s=now - row.started,
            logprobs=tuple(row.logprobs) if self.settings.logprobs else None,
            first_token_s=row.first_token_s,
            end_id=row.end,
        )


def _close_gaps(kept: list[int]) -> list[int]:
    """An order of the indices `kept` (ascending) in which as few rows as possible change place.

    The last rows move into the gaps: moving one copies all its keys and values.
    """
    size = len(kept)
    late = iter([index for index in kept if index >= size])
    stays = {index for index in kept if index < size}
    return [index if index in stays else next(late) for index in range(size)]
