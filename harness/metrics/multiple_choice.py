"""Multiple choice: whether the right choice is the likeliest to the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.errors import UserError
from harness.core.language import normalize_label
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples

Normalize = Literal["none", "tokens", "characters", "bytes"]


def choose(
    logprobs: Sequence[Sequence[float]], choices: Sequence[str], *, normalize: Normalize = "bytes"
) -> int:
    """The index of the likeliest choice, the first of equals.

    `logprobs` holds ln p of each token of each choice given the question. Their sum is divided by
    the choice's length in `bytes` (as lm-eval's `acc_bytes`), `characters` (`acc_norm`) or
    `tokens`, or by nothing (`acc`). Raises UserError for an empty choice or lengths that differ.
    """
    if len(logprobs) != len(choices) or not choices:
        raise UserError(
            f"{len(choices)} choices, but log-probabilities of {len(logprobs)}",
            hint="give the log-probabilities of each choice's tokens, in the same order",
        )
    scores = [
        math.fsum(tokens) / _length(tokens, choice, normalize)
        for tokens, choice in zip(logprobs, choices, strict=True)
    ]
    return max(range(len(scores)), key=scores.__getitem__)


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
    says which is right: its number counted from 0, its letter, or its text.
    """

    answer: str = "answer"
    normalize: Normalize = "bytes"

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "multiple_choice",
            "higher",
            needs="reference",
            per="sample",
            options=(("answer", self.answer), ("norm", self.normalize)),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, sample: Sample, responses: tuple[Response, ...]) -> Outcome:
        if len(sample.references) < 2:
            return Evidence.unscored(None, "the sample has fewer than two choices")
        if len(responses) != len(sample.references):
            return Evidence.unscored(None, "the run scored fewer choices than the sample has")
        right = right_choice(sample.fields.get(self.answer), sample.references)
        if right is None:
            return Evidence.unscored(None, f"the field {self.answer!r} names none of the choices")
        logprobs = [response.logprobs or () for response in responses]
        try:
            chosen = choose(logprobs, sample.references, normalize=self.normalize)
        except UserError as error:
            return Evidence.unscored(None, error.what)
        return float(chosen == right)


def right_choice(answer: object, choices: Sequence[str]) -> int | None:
    """The index that `answer` names by number, by letter, or by text; None where it names none."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer if 0 <= answer < len(choices) else None
    if not isinstance(answer, str):
        return None
    normalized = [normalize_label(choice) for choice in choices]
    if normalize_label(answer) in normalized:
        return normalized.index(normalize_label(answer))
    letter = answer.strip().upper().rstrip(".)")
    if len(letter) == 1 and 0 <= ord(letter) - ord("A") < len(choices):
        return ord(letter) - ord("A")
    return (
        int(letter)
        if letter.isascii() and letter.isdigit() and int(letter) < len(choices)
        else None
    )
