"""A text of a served conversation, and what a signal measures of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.core.thoughts import without_thoughts


class Text(NamedTuple):
    """A question and its answer, without what the model only thought (`core.thoughts`).

    `thought` says that it thought aloud: an answer that is nothing else says nothing.
    """

    prompt: str | None
    response: str
    thought: bool = False

    @classmethod
    def of(cls, prompt: str | None, response: str) -> Text:
        spoken = without_thoughts(response)
        return cls(prompt, spoken, spoken != response)

    @property
    def unspoken(self) -> bool:
        """Whether there was nothing but a thought."""
        return self.thought and not self.response.strip()


Measure = Callable[[Sequence[Text], Mapping[str, Any]], "list[float | None]"]
