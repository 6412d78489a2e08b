"""Self-BLEU: how alike a model's answers to one prompt are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_samples
from harness.metrics.support.silence import says_no_word, silent_as
from harness.metrics.support.tokens import Tokenizer, tokenize_all, tokenizer_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


def self_bleu(
    texts: Sequence[str],
    *,
    max_order: int = 4,
    tokenize: Tokenizer = "13a",
    effective_order: bool = True,
) -> NDArray[np.float64]:
    """BLEU of each text against all the others: shape (n,), 0 (all different) to 1 (all alike).

    Equals sacrebleu's `BLEU(tokenize=..., effective_order=...).sentence_score(text, others)`
    divided by 100, exponential smoothing included (Zhu et al. 2018, Texygen; Post 2018). A text
    without tokens scores 0. Raises UserError for fewer than two texts.

    Time is linear in the number of tokens, not in the pairs of texts. BLEU limits a text's count of
    an n-gram to the largest count in any *other* text. That is the largest of all texts, except for
    the one text that has it, where it is the second largest; so two numbers for each n-gram are
    enough.
    """
    if len(texts) < 2:
        raise UserError(
            f"Self-BLEU compares a text with others: it needs at least 2, not {len(texts)}",
            hint="ask for more responses per sample",
        )
    import numpy as np

    tokens, lengths = _intern(tokenize_all(texts, tokenize))
    owner = np.repeat(np.arange(len(texts)), lengths)
    correct = np.zeros((max_order, len(texts)))
    starts, grams = np.arange(len(tokens)), tokens
    for order in range(1, max_order + 1):
        if order > 1:
            starts, grams = _extend(starts, grams, tokens, owner, order)
        if len(starts) == 0:
            break
        correct[order - 1], shared = _clipped_matches(grams, owner[starts], len(texts))
        # What only one text has can't match, and neither can any longer gram that it begins.
        starts, grams = starts[shared], grams[shared]
    totals = np.maximum(lengths - np.arange(max_order)[:, None], 0)
    return _bleu(correct, totals, lengths, _closest_other_length(lengths), effective_order)


def _intern(tokenized: Sequence[Sequence[str]]) -> tuple[Integers, Integers]:
    """All tokens end to end as small integers, and how many belong to each text."""
    import numpy as np

    ids: dict[str, int] = {}
    flat = [ids.setdefault(token, len(ids)) for tokens in tokenized for token in tokens]
    lengths = np.fromiter(map(len, tokenized), dtype=np.int64, count=len(tokenized))
    return np.array(flat, dtype=np.int64), lengths


def _extend(
    starts: Integers, grams: Integers, tokens: Integers, owner: Integers, order: int
) -> tuple[Integers, Integers]:
    """The n-grams of the next order as (start, number of the n-gram), none across two texts.

    An n-gram is named by the (n−1)-gram that it begins with and its last token.
    """
    import numpy as np

    ends = starts + order - 1
    inside = ends < len(tokens)
    inside[inside] = owner[ends[inside]] == owner[starts[inside]]
    starts, ends = starts[inside], ends[inside]
    if len(starts) == 0:
        return starts, starts
    named = grams[inside] * (int(tokens.max()) + 1) + tokens[ends]
    return starts, np.unique(named, return_inverse=True)[1]


def _clipped_matches(
    grams: Integers, owner: Integers, texts: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Per text the sum over grams of min(its count, the largest count elsewhere).

    And which of `grams` occur in more than one text.
    """
    import numpy as np

    pairs, counts = np.unique(grams * texts + owner, return_counts=True)
    gram, text = np.divmod(pairs, texts)
    first = np.flatnonzero(np.diff(gram, prepend=-1))
    sizes = np.diff(first, append=len(gram))
    largest = np.repeat(np.maximum.reduceat(counts, first), sizes)
    at_top = counts == largest
    second = np.repeat(np.maximum.reduceat(np.where(at_top, 0, counts), first), sizes)
    alone_at_top = at_top & (np.repeat(np.add.reduceat(at_top.astype(np.int64), first), sizes) == 1)
    elsewhere = np.where(alone_at_top, second, largest)
    matches = np.bincount(text, weights=np.minimum(counts, elsewhere), minlength=texts)
    in_several = np.zeros(int(gram[-1]) + 1, dtype=bool)
    in_several[gram[first]] = sizes > 1
    return matches.astype(np.float64), in_several[grams]


def _closest_other_length(lengths: Integers) -> Integers:
    """Of the other texts' lengths the one closest to each text's own; of two, the shorter."""
    import numpy as np

    values, where, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    never = np.iinfo(np.int64).max // 4
    shorter = np.concatenate(([-never], values[:-1]))
    longer = np.concatenate((values[1:], [never]))
    neighbor = np.where(values - shorter <= longer - values, shorter, longer)
    return np.where(counts > 1, values, neighbor)[where]


def _bleu(
    correct: NDArray[np.float64],
    totals: Integers,
    lengths: Integers,
    reference_lengths: Integers,
    effective_order: bool,
) -> NDArray[np.float64]:
    """BLEU from its counts; `correct` and `totals` have the shape (orders, texts).

    Each order without a match counts as 1 / (2^j · total), j the number of such orders so far
    (smoothing method 3 of Chen and Cherry 2014). Orders that the text is too short for are left
    out with `effective_order`, and make the score 0 without it.
    """
    import numpy as np

    possible = totals > 0
    missed = possible & (correct == 0)
    halvings = np.cumsum(missed, axis=0)
    numerator = np.where(missed, 0.5**halvings, correct)
    with np.errstate(divide="ignore"):
        logs = np.log(numerator / np.maximum(totals, 1), where=possible, out=np.zeros(totals.shape))
    orders = possible.sum(axis=0) if effective_order else np.full(len(lengths), len(totals))
    mean_log = logs.sum(axis=0) / np.maximum(orders, 1)
    brevity = np.minimum(0.0, 1.0 - reference_lengths / np.maximum(lengths, 1))
    matched = correct.any(axis=0) & (possible.all(axis=0) | effective_order)
    return np.where(matched, np.exp(brevity + mean_log), 0.0)


@dataclass(frozen=True, slots=True)
class SelfBleu:
    """Mean Self-BLEU of the K responses to a sample, 0 to 1; lower is more diverse.

    `tokenize: auto` takes `zh` for Chinese, `char` for scripts without spaces between words and
    `13a` for everything else. A sample with one response is unscored.

    Where one of the answers has no word, the sample is 1, the worst value: left out, its silence
    would make the others more diverse.
    """

    # Each text is compared with the closest of the others, so Self-BLEU grows with the number of
    # texts. It is computed on groups of exactly K responses and only then averaged over samples:
    # all responses of a run in one group would make runs with more responses look less diverse.

    tokenize: Literal["auto", "13a", "zh", "intl", "char", "none"] = "auto"
    max_order: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= 9:
            raise UserError(f"max_order must lie in 1..9, not {self.max_order}", field="max_order")

    @property
    def spec(self) -> MetricSpec:
        options = (("tok", self.tokenize), ("order", str(self.max_order)), ("smooth", "exp"))
        return MetricSpec(
            "self_bleu", "lower", form="group", per="sample", version="3", options=options
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_samples(items, self._sample)

    def _sample(self, sample: Sample, responses: tuple[Response, ...]) -> Outcome:
        if len(responses) < 2:
            return Evidence.unscored(
                None, "Self-BLEU needs at least 2 responses per sample: set `responses`"
            )
        texts = [response.text for response in responses]
        if any(map(says_no_word, texts)):
            return silent_as(1.0)
        chosen = tokenizer_for(sample, texts) if self.tokenize == "auto" else self.tokenize
        scores = self_bleu(texts, max_order=self.max_order, tokenize=chosen)
        return Evidence(None, float(scores.mean()))
