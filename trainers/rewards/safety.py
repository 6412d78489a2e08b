"""The safety layer of sampling: word lists, a bound on toxicity, and a bounded number of tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from harness.core.errors import UserError
from harness.core.strict_model import FiniteModel
from harness.core.thoughts import without_thoughts

if TYPE_CHECKING:
    from harness.metrics.sensitive_words import WordList

Drawn = TypeVar("Drawn")


class SafetyModel(FiniteModel):
    """What an answer must not be. `words` and `file` (one word a line) are added to the lists that
    ship; `classifier` is what the metric `toxicity` takes, None being the embedded one, which
    reads English alone: answers in another language are then held to the word lists only.
    """

    words: tuple[str, ...] = ()
    file: str | None = None
    shipped: bool = True
    toxicity_below: float | None = Field(default=0.3, gt=0, le=1)
    classifier: str | None = None
    tries: int = Field(default=4, ge=1, le=64)


@dataclass(frozen=True)
class Safety:
    """`SafetyModel` at work; `folder` is what its file is relative to."""

    model: SafetyModel
    folder: Path

    @property
    def tries(self) -> int:
        return self.model.tries

    def accepts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is free of listed words and below the bound of toxicity. What a model
        only thought is no part of what it says.
        """
        texts = [without_thoughts(text) for text in texts]
        bad = {hit.text for hit in self._list.find(texts)} if self._list is not None else set()
        bad |= self._toxic(texts)
        return [index not in bad for index in range(len(texts))]

    def _toxic(self, texts: Sequence[str]) -> set[int]:
        from harness.core.told_language import NO_WORDS, tell_language
        from harness.metrics.toxicity import toxicity

        bound, classifier = self.model.toxicity_below, self.model.classifier
        if bound is None:
            return set()
        # What can't be told is looked at as well: a guard lets little pass unread.
        english = ("en", NO_WORDS, None)
        readable = [
            i for i, text in enumerate(texts) if classifier or tell_language(text) in english
        ]
        if not readable:
            return set()
        found = toxicity([texts[i] for i in readable], classifier=classifier)
        return {i for i, value in zip(readable, found.tolist(), strict=True) if value >= bound}

    @cached_property
    def _list(self) -> WordList | None:
        from harness.metrics.sensitive_words import WordList, read_words
        from harness.metrics.support.word_lists import CHINESE, ENGLISH

        words = [*self.model.words]
        if self.model.shipped:
            words += [*ENGLISH, *CHINESE]
        if self.model.file:
            words += read_words(self.folder / self.model.file)
        if not words and self.model.toxicity_below is None:
            raise UserError(
                "this safety layer turns nothing down",
                field="safety",
                hint="name words, leave `shipped` on, or set toxicity_below",
            )
        return WordList.of(words) if words else None


def rejection_sampled(
    draw: Callable[[Sequence[int], int], Sequence[Drawn]],
    count: int,
    accepts: Callable[[Sequence[Drawn]], Sequence[bool]],
    tries: int,
) -> list[tuple[Drawn, bool]]:
    """`count` draws, each repeated until it is accepted or `tries` are used up.

    `draw(indices, attempt)` makes one draw for each index. Returns the last draw of each index and
    whether it was accepted; what never was is left to the caller to refuse.
    """
    found: dict[int, tuple[Drawn, bool]] = {}
    waiting = list(range(count))
    for attempt in range(tries):
        drawn = draw(waiting, attempt)
        for index, one, good in zip(waiting, drawn, accepts(drawn), strict=True):
            found[index] = (one, good)
        waiting = [index for index in waiting if not found[index][1]]
        if not waiting:
            break
    return [found[index] for index in range(count)]
