"""A batch of answers, as a reward sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Answers:
    """A batch as a component sees it: chat prompts, plain answers, and each row's columns."""

    prompts: tuple[tuple[Mapping[str, str], ...], ...]
    texts: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
