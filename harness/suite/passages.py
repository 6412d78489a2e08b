"""The passages of a suite that training data is searched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.suite.suite import Suite
from harness.data.duplicates import Passage


def of_suite(suite: Suite) -> list[Passage]:
    """What a suite asks, or gives to read: the last message of each prompt, and each text.

    References are left out: two questions may well have one answer.
    """
    passages = []
    for task in suite.tasks:
        for sample in task.samples:
            asked = sample.prompt[-1]["content"] if sample.prompt else None
            texts = tuple(text for text in (asked, sample.text) if text)
            passages.append(Passage(f"{suite.name}/{task.name}", sample.id, texts))
    return passages
