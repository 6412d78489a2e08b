"""ROUGE-1, -2, -L and -Lsum, for Chinese as well: equal to rouge-score on English."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

from harness.core.scripts import words
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each

Kind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]


class RougeScore(NamedTuple):
    """Precision, recall and their harmonic mean, each in 0..1; higher is better."""

    precision: float
    recall: float
    f1: float


def tokenize(text: str, *, stem: bool = False) -> list[str]:
    """Lower-cased tokens of any script (`core.scripts.words`).

    On ASCII exactly rouge-score's, which elsewhere throws letters away; `stem` is its Porter
    stemmer (words over 3 letters).
    """
    tokens = words(text)
    return [_stem(token) if len(token) > 3 else token for token in tokens] if stem else tokens


def rouge(
    answer: str, references: str | Sequence[str], *, kind: Kind = "rougeL", stem: bool = False
) -> RougeScore:
    """ROUGE of `answer` (Lin 2004); over several references the score of the best F1.

    `rouge1` and `rouge2` count shared n-grams, `rougeL` the longest common subsequence,
    `rougeLsum` its union over lines. 0 where either side has no token.
    """
    if isinstance(references, str):
        references = (references,)
    if not references:
        raise ValueError("ROUGE needs a reference")
    compare = _COMPARE[kind]
    scores = [compare(reference, answer, stem) for reference in references]
    return max(scores, key=lambda score: score.f1)


def rouge_n(reference: Sequence[str], answer: Sequence[str], n: int) -> RougeScore:
    """Clipped n-gram overlap of two token lists."""
    wanted, given = _ngrams(reference, n), _ngrams(answer, n)
    shared = (wanted & given).total()
    return _f_score(shared, given.total(), wanted.total())


def rouge_l(reference: Sequence[str], answer: Sequence[str]) -> RougeScore:
    """Longest common subsequence of two token lists."""
    if not reference or not answer:
        return RougeScore(0.0, 0.0, 0.0)
    (last,) = deque(_lcs_rows(reference, answer), maxlen=1)
    common = len(answer) - last.bit_count()
    return _f_score(common, len(answer), len(reference))


def rouge_lsum(reference: Sequence[Sequence[str]], answer: Sequence[Sequence[str]]) -> RougeScore:
    """Summary-level LCS (Lin 2004, section 3.2), as ROUGE-1.5.5 clips it: sentences are lists."""
    left = Counter(token for sentence in reference for token in sentence)
    right = Counter(token for sentence in answer for token in sentence)
    wanted, given = left.total(), right.total()
    hits = 0
    for sentence in reference:
        union: set[int] = set()
        for other in answer:
            if other and sentence:
                union.update(_lcs_positions(sentence, other))
        for position in sorted(union):
            token = sentence[position]
            if left[token] > 0 and right[token] > 0:
                hits += 1
                left[token] -= 1
                right[token] -= 1
    return _f_score(hits, given, wanted)


def _lcs_rows(reference: Sequence[str], answer: Sequence[str]) -> Iterator[int]:
    """The LCS table, one integer per prefix of `reference`.

    Bit j of row i is 0 where the table's value grows from column j to j + 1, so a value is the
    number of zeros before it (Hyyrö 2004). A row then takes a few operations on one long integer,
    where the usual table takes one step for each column.
    """
    full = (1 << len(answer)) - 1
    places: dict[str, int] = {}
    for column, token in enumerate(answer):
        places[token] = places.get(token, 0) | (1 << column)
    row = full
    yield row
    for token in reference:
        matched = row & places.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
        yield row


def _lcs_positions(reference: Sequence[str], answer: Sequence[str]) -> list[int]:
    """Positions in `reference` of one longest common subsequence.

    Of several the one that rouge-score's walk back through the table finds, because the union
    of Lsum depends on it.
    """
    if set(reference).isdisjoint(answer):
        return []
    rows = list(_lcs_rows(reference, answer))
    found = []
    i, j = len(reference), len(answer)
    while i > 0 and j > 0:
        if reference[i - 1] == answer[j - 1]:
            found.append(i - 1)
            i, j = i - 1, j - 1
        elif _table(rows[i], j - 1) > _table(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return found


def _table(row: int, columns: int) -> int:
    return columns - (row & ((1 << columns) - 1)).bit_count()


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _f_score(shared: int, given: int, wanted: int) -> RougeScore:
    precision, recall = shared / max(given, 1), shared / max(wanted, 1)
    both = precision + recall
    return RougeScore(precision, recall, 2 * precision * recall / both if both > 0 else 0.0)


def _lines(text: str, stem: bool) -> list[list[str]]:
    return [tokenize(line, stem=stem) for line in text.split("\n") if line]


_COMPARE: dict[str, Callable[[str, str, bool], RougeScore]] = {
    "rouge1": lambda r, a, stem: rouge_n(tokenize(r, stem=stem), tokenize(a, stem=stem), 1),
    "rouge2": lambda r, a, stem: rouge_n(tokenize(r, stem=stem), tokenize(a, stem=stem), 2),
    "rougeL": lambda r, a, stem: rouge_l(tokenize(r, stem=stem), tokenize(a, stem=stem)),
    "rougeLsum": lambda r, a, stem: rouge_lsum(_lines(r, stem), _lines(a, stem)),
}


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem import porter  # type: ignore[import-untyped]

    return porter.PorterStemmer()


@dataclass(frozen=True, slots=True)
class _Rouge:
    """What the four have in common: each names itself and what it compares."""

    stem: bool = False
    name: ClassVar[str]
    kind: ClassVar[Kind]

    @property
    def spec(self) -> MetricSpec:
        options = (("tok", "words"), ("stem", "porter" if self.stem else "no"))
        return MetricSpec(self.name, "higher", version="2", options=options)

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value)

    def _value(self, sample: Sample, response: Response) -> Outcome:
        if not sample.references:
            return Evidence.unscored(None, "the sample has no reference")
        if not any(tokenize(reference) for reference in sample.references):
            return Evidence.unscored(None, "no reference has a word or character to compare with")
        return rouge(response.text, sample.references, kind=self.kind, stem=self.stem).f1


class RougeL(_Rouge):
    """Mean F1 of ROUGE-L over the responses, 0..1. `stem` applies Porter's stemmer to English."""

    name = "rouge_l"
    kind = "rougeL"


class Rouge1(_Rouge):
    """Mean F1 of ROUGE-1 over the responses, 0..1."""

    name = "rouge_1"
    kind = "rouge1"


class Rouge2(_Rouge):
    """Mean F1 of ROUGE-2 over the responses, 0..1."""

    name = "rouge_2"
    kind = "rouge2"


class RougeLsum(_Rouge):
    """Mean F1 of ROUGE-Lsum (sentences are lines) over the responses, 0..1."""

    name = "rouge_lsum"
    kind = "rougeLsum"
