"""Similarity in meaning: cosine of embeddings, and entailment by a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.core.told_language import english_throughout
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.bertscore import UNREADABLE
from harness.metrics.support.encoders import (
    cut_note,
    cut_off,
    described,
    load,
    max_tokens,
    readable_text,
    require,
    resolve,
    token_batches,
)
from harness.metrics.support.items import Outcome, Pair, score_responses, with_references_that_speak
from harness.metrics.support.silence import says_nothing, silent_as

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def embed(texts: Sequence[str], *, model: str | None = None) -> NDArray[np.float64]:
    """One unit vector per text, shape (n, width): the mean of its token embeddings.

    The pooling of sentence-transformers' all-MiniLM-L6-v2 (Reimers & Gurevych 2019), which is the
    embedded default; `model` is a hub id or a folder. A text longer than the model reads is cut.
    """
    import numpy as np
    import torch

    tokenizer, encoder = load(resolve(model), "AutoModel")
    found = np.zeros((len(texts), encoder.config.hidden_size))
    for rows, inputs in token_batches(tokenizer, encoder, [readable_text(t) for t in texts]):
        with torch.inference_mode():
            states = encoder(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
            found[rows] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
    return found


def similarity(
    answers: Sequence[str], references: Sequence[str], *, model: str | None = None
) -> NDArray[np.float64]:
    """Cosine of the embeddings of each answer and its reference, shape (n,), −1..1.

    Higher is nearer in topic and wording. It is not a judgment of truth: an answer that denies its
    reference is close to it as well.
    """
    import numpy as np

    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, but {len(references)} references")
    texts = list(dict.fromkeys([*answers, *references]))
    vectors = dict(zip(texts, embed(texts, model=model), strict=True))
    cosines = [vectors[a] @ vectors[r] for a, r in zip(answers, references, strict=True)]
    return np.clip(np.array(cosines, dtype=np.float64), -1.0, 1.0)


def entailment(
    answers: Sequence[str], references: Sequence[str], *, model: str
) -> NDArray[np.float64]:
    """Probability that each reference entails its answer, shape (n,), 0..1; higher is better.

    `model` is a natural-language-inference classifier, a hub id or a folder, with a label
    `entailment` (after Honovich et al. 2022, TRUE). A pair longer than it reads is cut.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, but {len(references)} references")
    return _entailment(model)(list(zip(references, answers, strict=True)))


@lru_cache(maxsize=2)
def _entailment(model: str) -> Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]:
    from harness.metrics.support.classifiers import entailment as classifier

    return classifier(model)


@dataclass(frozen=True, slots=True)
class Similarity:
    """Mean cosine to the nearest reference. A cosine has no true zero: its margin is absolute.

    An answer that says nothing is -1, the worst value. Where a text is longer than the model reads,
    the score says that it was cut.
    """

    model: str | None = None

    def __post_init__(self) -> None:
        require(self.model)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "similarity",
            "higher",
            scale="interval",
            unit="cosine",
            version="3" if self.model else "4",
            low=-1.0,
            options=(("model", described(self.model)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(with_references_that_speak(items), self._values)

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        reasons = [self._reason(pair) for pair in pairs]
        usable = [p for p, reason in zip(pairs, reasons, strict=True) if reason is None]
        best = iter(
            _noted(
                usable,
                _best(usable, lambda a, r: similarity(a, r, model=self.model)),
                lambda: load(resolve(self.model), "AutoModel"),
                worst=-1.0,
            )
        )
        return [next(best) if r is None else Evidence.unscored(None, r) for r in reasons]

    def _reason(self, pair: Pair) -> str | None:
        sample, response = pair
        if not sample.references:
            return "the sample has no reference"
        if self.model is not None:
            return None
        return None if english_throughout(sample, response.text) else UNREADABLE


@dataclass(frozen=True, slots=True)
class FactualConsistency:
    """Mean probability that a reference entails the response, by the entailment model `model`.

    There is no embedded entailment model; `similarity` is what can be had without one, under its
    own name. An answer that says nothing follows from everything, and is 0 here. Where a text is
    longer than the model reads, the score says that it was cut.
    """

    model: str

    def __post_init__(self) -> None:
        require(self.model)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "factual_consistency",
            "higher",
            unit="probability",
            version="3",
            options=(("model", described(self.model)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(with_references_that_speak(items), self._values)

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        usable = [pair for pair in pairs if pair[0].references]
        best = iter(
            _noted(
                usable,
                _best(usable, lambda a, r: entailment(a, r, model=self.model)),
                lambda: load(self.model, "AutoModelForSequenceClassification"),
                worst=0.0,
            )
        )
        return [
            next(best) if s.references else Evidence.unscored(None, "the sample has no reference")
            for s, _ in pairs
        ]


def _best(
    pairs: Sequence[Pair],
    compare: Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]],
) -> list[float]:
    """The largest of `compare(answer, reference)` over the references of each pair."""
    if not pairs:
        return []
    answers = [response.text for sample, response in pairs for _ in sample.references]
    values = iter(compare(answers, [r for sample, _ in pairs for r in sample.references]).tolist())
    return [max(next(values) for _ in sample.references) for sample, _ in pairs]


def _noted(
    pairs: Sequence[Pair],
    values: Sequence[float],
    loaded: Callable[[], tuple[Any, Any]],
    *,
    worst: float,
) -> list[Evidence]:
    """`values` with what their reader should know: that nothing was said, or what was cut."""
    if not pairs:
        return []
    tokenizer, model = loaded()
    texts = list(dict.fromkeys(t for s, r in pairs for t in (r.text, *s.references)))
    cut = dict(zip(texts, cut_off(tokenizer, model, texts), strict=True))
    note = cut_note(max_tokens(tokenizer, model))
    return [
        silent_as(worst)
        if says_nothing(response.text)
        else Evidence(
            None,
            value,
            reason=note if any(cut[text] for text in (response.text, *sample.references)) else None,
        )
        for (sample, response), value in zip(pairs, values, strict=True)
    ]
