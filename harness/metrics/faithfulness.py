"""Faithfulness: which share of an answer's sentences follows from the passages it was given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.similarity import entailment
from harness.metrics.support.encoders import cut_note, cut_off, described, load, max_tokens, require
from harness.metrics.support.items import Outcome, Pair, score_responses
from harness.metrics.support.silence import says_no_word, silent_as

_MARK = re.compile(r"\s*[\[\u3010]\^?[\w][\w.:,;\uff0c\u3001 /-]*[\]\u3011](?!\()")
_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f\uff1b])|\n+")
_BULLET = re.compile(r"^\s*(?:[-*•#]+\s+|\d{1,3}[.)]\s+)", re.MULTILINE)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|No|e\.g|i\.e)|\b[A-Z])\.$")


def sentences_of(text: str) -> list[str]:
    """The sentences of an answer, English or Chinese, without its marks of citation and bullets."""
    found: list[str] = []
    for piece in _END.split(_BULLET.sub("", _MARK.sub("", text))):
        part = (piece or "").strip()
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] = f"{found[-1]} {part}".strip()
        elif part and not says_no_word(part):
            found.append(part)
    return found


def faithfulness(
    answers: Sequence[str],
    contexts: Sequence[Sequence[str]],
    *,
    model: str,
    threshold: float = 0.5,
) -> list[float]:
    """For each answer the share of its sentences that one of its passages entails, 0 to 1.

    A sentence follows where the likeliest entailment is at least `threshold`, by the classifier
    `model` (a hub id or a folder, with a label `entailment`). No sentence, or no passage, is 0.
    Raises ValueError for lengths that differ.
    """
    if len(answers) != len(contexts):
        raise ValueError(f"{len(answers)} answers, but passages for {len(contexts)}")
    parts = [sentences_of(answer) for answer in answers]
    pairs = [
        (sentence, passage)
        for sentences, passages in zip(parts, contexts, strict=True)
        for sentence in sentences
        for passage in passages
    ]
    judged = entailment([s for s, _ in pairs], [p for _, p in pairs], model=model) if pairs else ()
    values = iter(float(value) for value in judged)
    found = []
    for sentences, passages in zip(parts, contexts, strict=True):
        follows = [
            max((next(values) for _ in passages), default=0.0) >= threshold for _ in sentences
        ]
        found.append(sum(follows) / len(follows) if follows else 0.0)
    return found


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Mean share of a response's sentences that follow from the row's passages; see `faithfulness`.

    `contexts` names the field with the passages: a list of texts, or one. There is no embedded
    entailment model. An answer that says nothing is 0: it says nothing of the passages. Where a
    passage is longer than the model reads, the score says that it was cut.
    """

    model: str
    contexts: str = "contexts"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError("the threshold lies between 0 and 1", field="threshold")
        require(self.model)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "faithfulness",
            "higher",
            options=(
                ("model", described(self.model)),
                ("contexts", self.contexts),
                ("over", f"{self.threshold:g}"),
            ),
            reads=(self.contexts,),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(items, self._values, silent=silent_as(0.0), is_silent=says_no_word)

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        given = [_passages(sample.fields.get(self.contexts)) for sample, _ in pairs]
        usable = [row for row, passages in enumerate(given) if passages]
        values = faithfulness(
            [pairs[row][1].text for row in usable],
            [given[row] for row in usable],
            model=self.model,
            threshold=self.threshold,
        )
        notes = self._notes([given[row] for row in usable])
        found = {
            row: Evidence(None, value, reason=note)
            for row, value, note in zip(usable, values, notes, strict=True)
        }
        missing = f"the row has no passages in the field {self.contexts!r}"
        return [found.get(row) or Evidence.unscored(None, missing) for row in range(len(pairs))]

    def _notes(self, contexts: Sequence[Sequence[str]]) -> list[str | None]:
        if not contexts:
            return []
        tokenizer, model = load(self.model, "AutoModelForSequenceClassification")
        texts = list(dict.fromkeys(text for passages in contexts for text in passages))
        cut = dict(zip(texts, cut_off(tokenizer, model, texts), strict=True))
        note = cut_note(max_tokens(tokenizer, model))
        return [note if any(cut[text] for text in passages) else None for passages in contexts]


def _passages(value: Any) -> list[str]:
    """The texts of a row's field: a list of them, of objects with a `text`, or one text."""
    listed = value if isinstance(value, list | tuple) else [value]
    texts = (one.get("text") if isinstance(one, dict) else one for one in listed)
    return [text for text in texts if isinstance(text, str) and text.strip()]
