"""A batch of answers, as a reward sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answers:
    """A batch as a component sees it: chat prompts, plain answers, and each row's columns.

    `beside` is what the trainer gives to reward functions besides, by TRL's names: the answers'
    tokens as `completion_ids`, and its `trainer_state`, where it has them.
    """

    prompts: tuple[tuple[Mapping[str, str], ...], ...]
    texts: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    beside: Mapping[str, Any] = field(default_factory=dict)
