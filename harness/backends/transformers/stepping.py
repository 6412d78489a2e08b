"""Several tokens of each row, written one after the other while the host does not look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backends.base import GenerationSettings
from harness.backends.transformers.captured import Captured, may_capture
from harness.backends.transformers.causal import ROWS, Causal, filled_up
from harness.backends.transformers.kv_cache import Memory
from harness.backends.transformers.rows import Rows
from harness.backends.transformers.sampling import choose, token_logprobs


@dataclass(frozen=True, slots=True)
class Written:
    """What the host sees: by step and row a token, whether its logits were finite, and its ln p."""

    tokens: list[list[int]]
    finite: list[list[bool]]
    logprobs: list[list[float]] | None


class Chooser:
    """Chooses the next token of each row from the states at its last one."""

    def __init__(self, causal: Causal, settings: GenerationSettings) -> None:
        self.causal = causal
        self.settings = settings

    def __call__(
        self, states: Tensor, draws: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens, whether their logits are finite, and ln p where that is asked for; of states
        (rows, width), in as many rows as `filled_up` makes of them. `draws` has one a row.
        """
        logits = self.causal.wide_logits(filled_up(states))
        top = logits.amax(dim=-1)
        ids = choose(logits, draws, self.settings, top, unasked=self.causal.look > 1)
        values = token_logprobs(logits, ids) if self.settings.logprobs else None
        return ids, top.isfinite(), values

    def first(self, states: Tensor, draws: Sequence[float] | None) -> Written:
        """The first tokens of rows whose prompts were read."""
        given = None
        if draws is not None:
            filling = [0.0] * (-len(draws) % ROWS)
            given = torch.tensor([*draws, *filling], dtype=torch.float64, device=states.device)
        ids, finite, values = self(states, given)
        return Written(
            [ids.tolist()], [finite.tolist()], None if values is None else [values.tolist()]
        )


class Stepper:
    """Writes on the rows of one memory, at most `causal.look` steps at a time.

    Within a step nothing is read from the device, and nothing is given to it: tokens, lengths,
    draws and what was chosen lie there. With `look` above 1 shapes are the same from step to step,
    so that on a GPU a step can be one graph (see `Captured`).
    """

    def __init__(self, chooser: Chooser, memory: Memory, *, rows: int) -> None:
        self.chooser = chooser
        self.memory = memory
        causal, settings = chooser.causal, chooser.settings
        shape = causal.look, -(-rows // ROWS) * ROWS

        def made(*size: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=causal.device)

        # The number of the step; each row's last token; and by step and row the rest.
        self._number = made(1, dtype=torch.long)
        self._tokens = made(shape[1], dtype=torch.long)
        self._draws = made(*shape, dtype=torch.float64) if settings.temperature > 0 else None
        self._chosen = made(*shape, dtype=torch.long)
        self._finite = made(*shape, dtype=torch.bool)
        self._logprobs = made(*shape, dtype=torch.float32) if settings.logprobs else None
        self._captured: Captured | None = None
        if may_capture(causal.device) and isinstance(memory, Rows) and memory.reads:
            changed = [self._number, self._tokens, self._chosen, self._finite, memory.places]
            self._captured = Captured(changed)

    def run(self, tokens: Sequence[int], draws: Any, steps: int) -> Written:
        """So many steps behind each row's last token, with draws (steps, rows), float64, or None.

        Any of a row's tokens may end it: those behind it mean nothing.
        """
        rows = len(tokens)
        count = self.memory.begin(steps)
        device = self._tokens.device
        self._number.zero_()
        self._tokens[:rows] = torch.tensor(tokens, device=device)
        if self._draws is not None:
            self._draws[:steps, :rows] = torch.as_tensor(draws, device=device)
        step = self.step_of(count)
        if not self._as_graph(step, steps):
            for _ in range(steps):
                step()
        seen = slice(0, steps), slice(0, rows)
        return Written(
            self._chosen[seen].tolist(),
            self._finite[seen].tolist(),
            None if self._logprobs is None else self._logprobs[seen].tolist(),
        )

    def _as_graph(self, step: Callable[[], None], steps: int) -> bool:
        memory = self.memory
        if self._captured is None or not isinstance(memory, Rows):
            return False
        lengths = memory.lengths
        done = self._captured.run(memory.shape, step, steps)
        # Lengths are counted by the host, which a graph leaves out, and a trial moves on.
        memory.lengths = [length + steps for length in lengths] if done else lengths
        return done

    def step_of(self, count: int) -> Callable[[], None]:
        """One step of `count` rows, those included that fill up."""
        filled = -(-count // ROWS) * ROWS
        tokens, number = self._tokens[:count], self._number
        draws = None if self._draws is None else self._draws[:, :filled]
        chosen, finite = self._chosen[:, :filled], self._finite[:, :filled]
        logprobs = None if self._logprobs is None else self._logprobs[:, :filled]

        def step() -> None:
            states = self.memory.step(tokens)
            own = None if draws is None else draws.index_select(0, number)[0]
            ids, are_finite, values = self.chooser(states, own)
            chosen.index_copy_(0, number, ids[None])
            finite.index_copy_(0, number, are_finite[None])
            if logprobs is not None and values is not None:
                logprobs.index_copy_(0, number, values[None])
            tokens.copy_(ids[:count])
            number.add_(1)

        return step
