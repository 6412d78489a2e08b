"""The passages of a suite that training data is searched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.suite.suite import Suite
from harness.data.duplicates import Passage


def of_suite(suite: Suite) -> list[Passage]:
    """Each sample's question (what is asked last) and given text, to be compared.

    References are left out: different questions may have the same answer.
    """
    passages = []
    for task in suite.tasks:
        for sample in task.samples:
            texts = tuple(text for text in (sample.question, sample.text) if text)
            passages.append(Passage(f"{suite.name}/{task.name}", sample.id, texts))
    return passages
