"""Perplexity of given texts: per token, per word, and in bits per byte."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples

_SPACES = re.compile(r"\s+")
_LARGEST_NATS = 700.0


@dataclass(frozen=True, slots=True)
class TextLikelihood:
    """What perplexity is made of; adds up over documents and over the parts of one document.

    `nll` in nats (>= 0), and the counts that it is divided by. Lower is better throughout.
    """

    nll: float
    tokens: int
    words: int
    bytes: int

    def __add__(self, other: TextLikelihood) -> TextLikelihood:
        return TextLikelihood(
            self.nll + other.nll,
            self.tokens + other.tokens,
            self.words + other.words,
            self.bytes + other.bytes,
        )

    @property
    def per_token(self) -> float:
        """exp(nll / tokens), >= 1: depends on the tokenizer, so it can't compare two of them."""
        return _exp(self.nll / self.tokens)

    @property
    def per_word(self) -> float:
        """exp(nll / words), words between whitespace, as lm-eval's `word_perplexity`."""
        return _exp(self.nll / self.words)

    @property
    def bits_per_byte(self) -> float:
        """NLL / (bytes · ln 2): comparable over tokenizers, and the one to use for Chinese."""
        return self.nll / (self.bytes * math.log(2))


def text_likelihood(text: str, logprobs: Sequence[float]) -> TextLikelihood:
    """The likelihood of `text` from ln p of each of its tokens.

    Words are counted as lm-eval counts them (pieces between runs of whitespace), bytes in UTF-8.
    """
    return TextLikelihood(
        nll=-math.fsum(logprobs),
        tokens=len(logprobs),
        words=len(_SPACES.split(text)),
        bytes=len(text.encode("utf-8", errors="surrogatepass")),
    )


def perplexity(documents: Iterable[tuple[str, Sequence[float]]]) -> TextLikelihood:
    """The sum over `(text, ln p of each token)`: `perplexity(docs).per_token` is the corpus's.

    Every token weighs the same: exp(Σ nll / Σ tokens), not a mean of the documents' perplexities.
    """
    total = TextLikelihood(0.0, 0, 0, 0)
    for text, logprobs in documents:
        total += text_likelihood(text, logprobs)
    return total


def rolling_windows(
    token_ids: Sequence[int], max_length: int, prefix_token_id: int, context: int = 1
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut a text into `(context_ids, target_ids)`, every token a target exactly once, in order.

    `max_length` is how many tokens the model can read at once: the input of a window is its
    context and all targets but the last, so `len(context_ids) + len(target_ids)` reaches
    `max_length + 1`. The first window has the prefix token alone as its context. A later one is
    as full as can be: it begins `context` tokens before its targets, and the last one reaches
    back further, which gives its few targets all the context there is room for. These are the
    disjoint rolling windows of lm-eval's `loglikelihood_rolling`.
    """
    if not 1 <= context <= max_length:
        raise ValueError(f"context must lie in 1..max_length ({max_length}), not {context}")
    tokens = tuple(token_ids)
    if not tokens:
        return
    yield (prefix_token_id,), tokens[:max_length]
    start = max_length
    while start < len(tokens):
        end = min(start + max_length - context + 1, len(tokens))
        yield tokens[end - max_length - 1 : start], tokens[start:end]
        start = end


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity per token of each document; the run's value is exp(Σ nll / Σ tokens).

    Paired by document in nats: z = ΔNLL − T·(ln(1 + δ) + ε), T the anchor's tokens.
    """

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "perplexity",
            "lower",
            form="perplexity",
            unit="perplexity per token",
            low=1.0,
            high=None,
            needs="text",
            per="sample",
            stats=("nll_nats", "tokens", "words", "bytes"),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, _document)


def _document(sample: Sample, responses: tuple[Response, ...]) -> Outcome:
    if any(response.logprobs is None for response in responses):
        return Evidence.error(None, "the backend gave no log-probabilities")
    logprobs = [value for response in responses for value in response.logprobs or ()]
    if not logprobs:
        return Evidence.unscored(None, "the text has no token")
    text = "".join(response.text for response in responses) if sample.text is None else sample.text
    found = text_likelihood(text, logprobs)
    if not math.isfinite(found.nll):
        return Evidence.error(None, f"the text's log-probability is {-found.nll}")
    stats = (found.nll, float(found.tokens), float(found.words), float(found.bytes))
    return Evidence(None, found.per_token, stats=stats)


def _exp(exponent: float) -> float:
    """Past what a float can hold the value stays at 1e304: a model that has exploded is a bad one,
    which the gate fails by its nats, and no missing value, which would be waited for.
    """
    return math.exp(min(exponent, _LARGEST_NATS))
