"""What a model really reads: the token ids of a prompt, as a digest that is kept with the answer.

Two runs whose models know the same tokens are held to the same ids: another chat template, a
template that writes the day, a beginning that one of them lacks ask another question.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace

from harness.backends.base import Backend, Generation, KnowsTokens
from harness.core.thoughts import PROMPT_TAIL, cut_in_thought
from harness.core.types import Response
from harness.evaluation.plan import Wanted


class Asking:
    """Notes on each answer of one backend what was asked.

    Of the first of the `wanted` answers to each task and kind it also notes the prompt as text, so
    that two runs can be shown where theirs part.
    """

    def __init__(self, backend: Backend, wanted: Sequence[Wanted]) -> None:
        self._backend = backend if isinstance(backend, KnowsTokens) else None
        first: dict[tuple[str, str], str] = {}
        for want in wanted:
            first.setdefault((want.task.name, want.kind), want.key)
        self._shown = frozenset(first.values())

    def noted(
        self, response: Response, context: Sequence[int], target: Sequence[int] = ()
    ) -> Response:
        """The response with what was asked: the ids before the answer, and a given answer's own."""
        if self._backend is None or not context:
            return response
        shown = response.key in self._shown and response.kind != "text"
        return replace(
            response,
            asked=f"{self._backend.vocabulary}:{_digest(context, target)}",
            prompt=self._backend.as_read(context) if shown else None,
        )

    def text_of(self, answer: Generation, context: Sequence[int], begun: str = "") -> str:
        """What was said, with the beginning that the suite gave it (`begun`). A thought that the
        template opened, and in which the answer was cut, shows neither of its ends: it begins with
        the template's mark, so that nobody takes it for the answer.
        """
        text = begun + answer.text
        if self._backend is None or answer.finish_reason != "length":
            return text if answer.error is None else answer.text
        tail = context[-PROMPT_TAIL - len(begun) :]
        return cut_in_thought(self._backend.as_read(tail).removesuffix(begun), text)


def _digest(context: Sequence[int], target: Sequence[int]) -> str:
    """16 hexadecimal digits of SHA-256 over both lists of ids."""
    numbers = array("q", [len(context), *context, *target])
    return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]
