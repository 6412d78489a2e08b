"""What questions are about: clusters of those that share words, each named by its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.core.language import CJK
from harness.core.scripts import words

MOST = 8
FEWEST = 25
"""Questions to each topic, on average."""
VOCABULARY = 500
DIRECTIONS = 24
ROUNDS, BEGINNINGS = 30, 4
NAMED_BY = 3

Array = npt.NDArray[np.float64]
_RUN = re.compile(r"\w+(?:\s+\w+)*")
"""What no mark of punctuation parts."""
_IS_CJK = re.compile(f"[{CJK}]")


def topics(texts: Sequence[str | None]) -> list[str | None]:
    """The topic of each text, by name (`refund, order, parcel`); None for a text without a word
    that some others have, and for all where there are too few texts.

    k-means over the directions in which the texts' words differ most (TF-IDF and a singular value
    decomposition). It knows no language: where no spaces part words, two letters in a row stand for
    one. The same texts have the same topics, in whatever order.
    """
    order = sorted(range(len(texts)), key=lambda i: texts[i] or "")
    counted = [terms(texts[i] or "") for i in order]
    vocabulary = _vocabulary(counted)
    weights = _weights(counted, vocabulary)
    known = weights.any(axis=1)
    count = min(MOST, int(known.sum()) // FEWEST)
    found: list[str | None] = [None] * len(texts)
    if count < 2:
        return found
    weights = weights[known]
    points = _directions(weights)
    chosen = max((_clusters(points, n) for n in range(2, count + 1)), key=_apart(points))
    names = _names(weights, chosen, vocabulary)
    for place, topic in zip(np.flatnonzero(known).tolist(), chosen.tolist(), strict=True):
        found[order[place]] = names[topic]
    return found


def terms(text: str) -> Counter[str]:
    """A text's words; of Chinese and what else sets no spaces, two characters in a row."""
    found: Counter[str] = Counter()
    for run in _RUN.findall(text):
        said = words(run)
        single = [bool(_IS_CJK.match(word)) for word in said]
        both = list(zip(said, single, strict=True))
        found.update(word for word, cjk in both if not cjk and _is_word(word))
        found.update(one + two for (one, a), (two, b) in pairwise(both) if a and b)
    return found


def _is_word(word: str) -> bool:
    return len(word) > 1 and not word.isdecimal()


def _vocabulary(counted: Sequence[Counter[str]]) -> list[str]:
    """The terms of the most texts, but for those of one alone and those of over half of them."""
    in_texts = Counter(term for each in counted for term in each)
    ranked = sorted(in_texts.items(), key=lambda item: (-item[1], item[0]))
    return [term for term, n in ranked if 1 < n <= len(counted) / 2][:VOCABULARY]


def _weights(counted: Sequence[Counter[str]], vocabulary: Sequence[str]) -> Array:
    """TF-IDF, each text of length 1 or 0: shape (texts, vocabulary)."""
    places = {term: place for place, term in enumerate(vocabulary)}
    found = np.zeros((len(counted), len(vocabulary)))
    for row, each in enumerate(counted):
        for term, times in each.items():
            if term in places:
                found[row, places[term]] = 1.0 + np.log(times)
    found *= np.log(max(1, len(counted)) / np.maximum(1, (found > 0).sum(axis=0)))
    return _of_length_one(found)


def _of_length_one(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = np.where(lengths > 1e-12, rows / np.maximum(lengths, 1e-12), 0.0)
    return found


def _directions(weights: Array) -> Array:
    values, vectors = np.linalg.eigh(weights.T @ weights)
    kept = vectors[:, values.argsort()[::-1][:DIRECTIONS]]
    return _of_length_one(weights @ kept)


def _clusters(points: Array, count: int) -> npt.NDArray[np.intp]:
    """The cluster of each point: the closest of a few beginnings of k-means++."""
    chance = np.random.default_rng(0)
    best: tuple[float, npt.NDArray[np.intp]] | None = None
    for _ in range(BEGINNINGS):
        centers = _spread(points, count, chance)
        for _ in range(ROUNDS):
            chosen = (points @ centers.T).argmax(axis=1)
            sums = np.stack([points[chosen == k].sum(axis=0) for k in range(count)])
            moved = np.where(sums.any(axis=1, keepdims=True), _of_length_one(sums), centers)
            if np.allclose(moved, centers):
                break
            centers = moved
        near = points @ centers.T
        if best is None or near.max(axis=1).sum() > best[0] + 1e-9:
            best = float(near.max(axis=1).sum()), near.argmax(axis=1)
    assert best is not None
    return best[1]


def _apart(points: Array) -> Callable[[npt.NDArray[np.intp]], float]:
    """How much nearer points are to their own cluster's mean than to the next one's, 0 to 1."""

    def measure(chosen: npt.NDArray[np.intp]) -> float:
        means = np.stack([points[chosen == k].mean(axis=0) for k in np.unique(chosen)])
        far = np.linalg.norm(points[:, None] - means[None], axis=2)
        far.sort(axis=1)
        return float((1.0 - far[:, 0] / np.maximum(far[:, 1], 1e-12)).mean())

    return measure


def _spread(points: Array, count: int, chance: np.random.Generator) -> Array:
    """Points to begin from, each the likelier the further it is from those before it."""
    chosen = [int(chance.integers(len(points)))]
    while len(chosen) < count:
        far = np.maximum(0.0, 1.0 - (points @ points[chosen].T).max(axis=1))
        share = far / far.sum() if far.sum() > 0 else np.full(len(points), 1 / len(points))
        chosen.append(int(chance.choice(len(points), p=share)))
    return points[chosen].copy()


def _names(
    weights: Array, chosen: npt.NDArray[np.intp], vocabulary: Sequence[str]
) -> dict[int, str]:
    """Each topic by the words that it has most beyond the others."""
    found: dict[int, str] = {}
    for topic in sorted(set(chosen.tolist())):
        inside = chosen == topic
        outside = weights[~inside].mean(axis=0) if not inside.all() else 0.0
        more = weights[inside].mean(axis=0) - outside
        name = ", ".join(vocabulary[i] for i in (-more).argsort(kind="stable")[:NAMED_BY])
        found[topic] = name if name not in found.values() else f"{name} ({topic + 1})"
    return found
