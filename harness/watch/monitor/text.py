"""A text of a served conversation, and what a signal measures of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Text(NamedTuple):
    """A question and its answer."""

    prompt: str | None
    response: str


Measure = Callable[[Sequence[Text], Mapping[str, Any]], "list[float | None]"]
