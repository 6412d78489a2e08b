"""Multiple choice: whether the right choice is the likeliest to the model."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from harness.core.errors import UserError
from harness.core.labels import Labels
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples

Normalize = Literal["none", "tokens", "characters", "bytes"]


def choose(
    logprobs: Sequence[Sequence[float]], choices: Sequence[str], *, normalize: Normalize = "bytes"
) -> int:
    """The index of the likeliest choice, the first of equals (see `likeliest`).

    `logprobs` holds ln p of each token of each choice given the question. Their sum is divided by
    the choice's length in `bytes` (as lm-eval's `acc_bytes`), `characters` (`acc_norm`) or
    `tokens`, or by nothing (`acc`). Raises UserError for an empty choice or lengths that differ.
    """
    return likeliest(logprobs, choices, normalize=normalize)[0]


def likeliest(
    logprobs: Sequence[Sequence[float]], choices: Sequence[str], *, normalize: Normalize = "bytes"
) -> list[int]:
    """The indices of all the likeliest choices, in order. Arguments as in `choose`."""
    if len(logprobs) != len(choices) or not choices:
        raise UserError(
            f"{len(choices)} choices, but log-probabilities of {len(logprobs)}",
            hint="give the log-probabilities of each choice's tokens, in the same order",
        )
    scores = [
        math.fsum(tokens) / _length(tokens, choice, normalize)
        for tokens, choice in zip(logprobs, choices, strict=True)
    ]
    return [index for index, score in enumerate(scores) if score == max(scores)]


def _length(tokens: Sequence[float], choice: str, normalize: Normalize) -> int:
    lengths = {
        "none": 1,
        "tokens": len(tokens),
        "characters": len(choice),
        "bytes": len(choice.encode("utf-8", errors="surrogatepass")),
    }
    if not tokens or not lengths[normalize]:
        raise UserError("a choice is empty")
    return lengths[normalize]


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Share of samples whose likeliest choice is the right one.

    The choices are the sample's references, in order. `answer` names the field of the data that
    says which is right: its text, its letter, or its number counted from 0; `answer_is` says which
    of these it is. With `auto` all rows of the task are read in one way where their ways differ,
    and where two ways fit every row, the suite is refused: the right choice is never guessed.

    A model that finds several choices equally likely has chosen none of them.
    """

    answer: str = "answer"
    normalize: Normalize = "bytes"
    answer_is: Literal["auto", "text", "letter", "number"] = "auto"

    @property
    def spec(self) -> MetricSpec:
        way = () if self.answer_is == "auto" else (("is", self.answer_is),)
        return MetricSpec(
            "multiple_choice",
            "higher",
            needs="reference",
            per="sample",
            version="2",
            options=(("answer", self.answer), ("norm", self.normalize), *way),
        )

    def among(self, samples: Sequence[Sample]) -> MultipleChoice:
        """This metric with the one way to read the answers of `samples`.

        Raises UserError where two ways fit every row and name different choices in one.
        """
        if self.answer_is != "auto":
            return self
        rows = [(s, s.fields.get(self.answer)) for s in samples if len(s.references) > 1]
        ways = {
            way: [read(answer, sample.references) for sample, answer in rows]
            for way, read in _READINGS.items()
        }
        unclear = [
            row for row, named in enumerate(zip(*ways.values(), strict=True)) if _differ(named)
        ]
        whole = [way for way, found in ways.items() if None not in found]
        if not unclear:
            numbers = any(isinstance(answer, int | float) for _, answer in rows)
            return replace(self, answer_is="text") if numbers and whole == ["text"] else self
        if len({tuple(ways[way]) for way in whole}) == 1:
            return replace(self, answer_is=cast("Any", whole[0]))
        sample, answer = rows[unclear[0]]
        named = " and ".join(
            f"{sample.references[index]!r} by its {way}"
            for way, found in ways.items()
            if (index := found[unclear[0]]) is not None
        )
        raise UserError(
            f"the answer {answer!r} of sample {sample.id!r} names {named}",
            field=self.answer,
            hint="say which it is: `multiple_choice: {answer_is: text}`, or letter, or number",
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, sample: Sample, responses: tuple[Response, ...]) -> Outcome:
        if len(sample.references) < 2:
            return Evidence.unscored(None, "the sample has fewer than two choices")
        if len(responses) != len(sample.references):
            return Evidence.unscored(None, "the run scored fewer choices than the sample has")
        read = right_choice if self.answer_is == "auto" else _READINGS[self.answer_is]
        right = read(sample.fields.get(self.answer), sample.references)
        if right is None:
            return Evidence.unscored(None, f"the field {self.answer!r} names none of the choices")
        logprobs = [response.logprobs or () for response in responses]
        try:
            chosen = likeliest(logprobs, sample.references, normalize=self.normalize)
        except UserError as error:
            return Evidence.unscored(None, error.what)
        # Of two choices with one text either is right.
        return float({sample.references[one] for one in chosen} == {sample.references[right]})


def _differ(named: Sequence[int | None]) -> bool:
    return len({index for index in named if index is not None}) > 1


def right_choice(answer: object, choices: Sequence[str]) -> int | None:
    """The index that `answer` names by number, by text, or by letter; None where it names none.

    A whole number counts from 0. A text is a choice's own first, exactly or but for what
    `core.labels` forgives where that is one choice alone; then a letter, then a number. What JSON
    reads as true, false or a number with a point is taken for the text that it is written as.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        return _by_number(answer, choices)
    named = (read(answer, choices) for read in _READINGS.values())
    return next((index for index in named if index is not None), None)


def _by_text(answer: object, choices: Sequence[str]) -> int | None:
    if not isinstance(answer, int | float | str):
        return None
    known = Labels(tuple(choices), articles=True)
    alike = (i for i, choice in enumerate(choices) if known.is_one_of(str(answer), (choice,)))
    return next(alike, None)


def _by_letter(answer: object, choices: Sequence[str]) -> int | None:
    if not isinstance(answer, str):
        return None
    letter = unicodedata.normalize("NFKC", answer).strip().strip("().:[]").upper()
    index = ord(letter) - ord("A") if len(letter) == 1 else -1
    return index if 0 <= index < len(choices) else None


def _by_number(answer: object, choices: Sequence[str]) -> int | None:
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        return None
    digits = str(answer).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        return None
    return int(digits) if int(digits) < len(choices) else None


_READINGS: dict[str, Callable[[object, Sequence[str]], int | None]] = {
    "text": _by_text,
    "letter": _by_letter,
    "number": _by_number,
}
