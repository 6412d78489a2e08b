"""BLEU and chrF: sacrebleu's numbers under sacrebleu's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each, with_references_that_speak
from harness.metrics.support.tokens import sacrebleu_tokenizer, tokenizer_for


class CorpusScore(NamedTuple):
    """A value in 0..100 (higher is better) and sacrebleu's signature of it."""

    score: float
    signature: str


def bleu(
    candidates: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
) -> CorpusScore:
    """Corpus BLEU (Papineni et al. 2002; Post 2018): counts are summed, then one score is made.

    One reference per candidate, or several (as many or as few as each has). Raises UserError
    where the lengths differ or the tokenizer is unknown.
    """
    return _corpus(_bleu(tokenize, False), candidates, references)


def chrf(
    candidates: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    word_order: int = 0,
) -> CorpusScore:
    """Corpus chrF (Popović 2015), chrF++ with `word_order` 2. Arguments as in `bleu`."""
    return _corpus(_chrf(word_order), candidates, references)


def _corpus(metric: Any, candidates: Sequence[str], references: Sequence[Any]) -> CorpusScore:
    groups = [[r] if isinstance(r, str) else list(r) for r in references]
    if len(candidates) != len(groups):
        raise UserError(
            f"{len(candidates)} candidates, but references for {len(groups)}",
            hint="give each candidate its reference, or a list of them",
        )
    if not groups or not all(groups):
        raise UserError(
            "every candidate needs a reference, and at least one candidate is needed",
            hint="leave out candidates without a reference",
        )
    width = max(map(len, groups))
    # sacrebleu wants one list per reference number, with None where a candidate has fewer.
    streams = [[g[i] if i < len(g) else None for g in groups] for i in range(width)]
    score = metric.corpus_score(list(candidates), streams).score
    return CorpusScore(float(score), str(metric.get_signature()))


@lru_cache(maxsize=16)
def _bleu(tokenize: str, effective_order: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    sacrebleu_tokenizer(tokenize)
    return BLEU(tokenize=tokenize, effective_order=effective_order)


@lru_cache(maxsize=4)
def _chrf(word_order: int) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order)


@dataclass(frozen=True, slots=True)
class Bleu:
    """BLEU over the responses, 0..100.

    A response's own value is its sentence BLEU (effective order); the run's value is corpus BLEU
    from the summed statistics, whose uncertainty is a jackknife's. `tokenize: auto` takes `zh` for
    Chinese, `char` for scripts without spaces between words and `13a` for everything else.
    """

    tokenize: Literal["auto", "13a", "zh", "intl", "char", "none"] = "auto"

    @property
    def spec(self) -> MetricSpec:
        counts = (*(f"correct_{n}" for n in range(1, 5)), *(f"total_{n}" for n in range(1, 5)))
        return MetricSpec(
            "bleu",
            "higher",
            form="corpus",
            aggregate="bleu",
            unit="points 0-100",
            high=100.0,
            version="3",
            stats=("sys_len", "ref_len", *counts),
            options=(("tok", self.tokenize), ("smooth", "exp"), ("sacrebleu", _version())),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(with_references_that_speak(items), self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if not sample.references:
            return Evidence.unscored(None, "the sample has no reference")
        chosen = self.tokenize
        if chosen == "auto":
            chosen = tokenizer_for(sample, sample.references)
        found = _bleu(chosen, True).sentence_score(response.text, list(sample.references))
        stats = (found.sys_len, found.ref_len, *found.counts, *found.totals)
        return Evidence(None, float(found.score), stats=tuple(map(float, stats)))


@dataclass(frozen=True, slots=True)
class Chrf:
    """Mean of the responses' sentence chrF (chrF++ with `word_order: 2`), 0..100."""

    word_order: int = 0

    @property
    def spec(self) -> MetricSpec:
        options = (("nw", str(self.word_order)), ("sacrebleu", _version()))
        return MetricSpec(
            "chrf", "higher", unit="points 0-100", high=100.0, version="3", options=options
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(with_references_that_speak(items), self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if not sample.references:
            return Evidence.unscored(None, "the sample has no reference")
        metric = _chrf(self.word_order)
        return float(metric.sentence_score(response.text, list(sample.references)).score)


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("sacrebleu")
