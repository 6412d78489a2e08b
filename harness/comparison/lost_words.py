"""Which words a model lost, as data: tokens that became less likely, and answers that changed."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.attribution.sample import places_of
from harness.comparison.where import compared
from harness.core.errors import UserError
from harness.core.protocol import MetricName
from harness.core.types import Response, Run
from harness.core.workspace import Workspace
from harness.gate.pairing import Paired
from harness.models.reader import Reader, reader_of
from harness.store.runs import run_responses
from harness.store.store import Store

TEXTS = 3
"""Texts, and pairs of answers, of each task: those that lost most."""
NAMED = 8
FEWEST = 2
"""Texts in which a token stands before it is named as one."""
CERTAIN = 50.0
"""Nats; a change beyond, from or to a probability of 0, counts as this much."""
SURE = 0.05
ROUNDS = 400
UNITS = 60_000
"""Of one task: tokens that are dealt, each once a text; of more every k-th text is asked."""

Place = tuple[str, str, str, int]
"""Task, sample, kind and index of a response: the same in both runs."""


@dataclass(frozen=True, slots=True)
class Told:
    """A text that both models were asked to find likely: its tokens, and of each the change of
    ln p, candidate minus anchor, in nats.
    """

    sample: str
    tokens: tuple[int, ...]
    nats: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """A token, in how many texts it stands, its mean change of ln p there, in nats, and the p-value
    of that over all tokens.
    """

    token: int
    texts: int
    mean: float
    p: float


@dataclass(frozen=True, slots=True)
class LostText:
    """A text in pieces, in order, with the change of ln p of each, in nats."""

    sample: str
    pieces: tuple[tuple[str, float], ...]

    @property
    def nats(self) -> float:
        return sum(nats for _, nats in self.pieces)


@dataclass(frozen=True, slots=True)
class LostTexts:
    """Of `count` texts of a task the words that lost most, as (word, Lost), and the texts that did.
    Both are empty where the candidate's tokenizer isn't here.
    """

    count: int
    named: tuple[tuple[str, Lost], ...]
    worst: tuple[LostText, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """The first answers of both models to a sample that lost."""

    sample: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LostWords:
    """By task: texts that became less likely, and answers that changed. `is_read` says whether the
    candidate's tokenizer is here, without which tokens say nothing.
    """

    texts: Mapping[str, LostTexts]
    answers: Mapping[str, tuple[Changed, ...]]
    is_read: bool


def lost_words(store: Store, workspace: Workspace, verdict_id: str) -> LostWords:
    """Which words the candidate of a stored verdict lost, from what is stored alone.

    Raises UserError where no answer changed and no text has the same tokens in both runs.
    """
    anchor, candidate, pairs = compared(store, verdict_id)
    tasks = {MetricName.parse(name).task for name in pairs}
    sides = [
        [each for each in run_responses(store, run.id) if each.task in tasks]
        for run in (anchor, candidate)
    ]
    texts = told(*sides)
    answers = _changed(sides[0], sides[1], pairs)
    if not texts and not answers:
        raise UserError(
            "no answer changed, and no text has the probabilities of the same tokens in both runs"
        )
    reader = _reader(candidate, workspace, sides[1]) if texts else None
    read = {task: _read_of(mine, reader, SURE / len(texts)) for task, mine in texts.items()}
    return LostWords(read, answers, reader is not None)


def told(anchor: Sequence[Response], candidate: Sequence[Response]) -> dict[str, list[Told]]:
    """Task -> the texts and references that both found as the same tokens, most lost first."""
    before = {_place(each): each for each in anchor if each.logprobs}
    found: dict[str, list[Told]] = defaultdict(list)
    for after in candidate:
        other = before.get(_place(after))
        if other is None or not after.logprobs or not after.token_ids:
            continue
        if other.token_ids != after.token_ids or len(after.logprobs) != len(after.token_ids):
            continue
        nats = tuple(map(_change, other.logprobs or (), after.logprobs))
        found[after.task].append(Told(after.sample_id, after.token_ids, nats))
    return {task: sorted(texts, key=lambda one: sum(one.nats)) for task, texts in found.items()}


def most_lost(texts: Sequence[Told], alpha: float = SURE) -> list[Lost]:
    """The tokens that lost more than the others of their texts, those with the largest loss over
    all their texts first; empty where none surely does.

    What a text as a whole lost is taken out. A token counts once a text, with the mean of its
    changes there; its mean over texts, in standard errors, is compared with the largest of any
    token where the changes are dealt to the tokens anew: in at most `alpha` of worlds in which no
    token differs is one named.
    """
    units = _units(texts)
    if units is None:
        return []
    tokens, codes, left, raw = units
    times = np.bincount(codes)
    spread = float(left.std())
    if spread < 1e-12:
        return []
    scale = np.sqrt(times) * spread
    asked = times >= FEWEST
    seen = np.where(asked, -np.bincount(codes, weights=left) / scale, -np.inf)
    chance = np.random.default_rng(0)
    dealt = [
        float((-np.bincount(codes, weights=chance.permutation(left)) / scale)[asked].max())
        for _ in range(ROUNDS if asked.any() else 0)
    ]
    largest = np.sort(dealt)
    as_large = ROUNDS - np.searchsorted(largest, seen - 1e-9)
    p = (1 + as_large) / (1 + ROUNDS)
    means = np.bincount(codes, weights=raw) / times
    sure = [i for i in np.flatnonzero(asked).tolist() if p[i] <= alpha and means[i] < 0]
    sure.sort(key=lambda i: (-seen[i] * scale[i], i))
    return [Lost(int(tokens[i]), int(times[i]), float(means[i]), float(p[i])) for i in sure]


def _units(
    texts: Sequence[Told],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64], Any] | None:
    """(tokens, and of each token once a text: its place among them, its mean change beyond that of
    the text, its mean change).
    """
    size = sum(len(text.tokens) for text in texts)
    texts = texts[:: max(1, -(-size // UNITS))]
    if not texts:
        return None
    token = np.concatenate([np.asarray(text.tokens, dtype=np.int64) for text in texts])
    nats = np.concatenate([np.asarray(text.nats, dtype=float) for text in texts])
    lengths = [len(text.tokens) for text in texts]
    text = np.repeat(np.arange(len(texts)), lengths)
    beyond = nats - np.repeat([float(np.mean(each.nats)) for each in texts], lengths)
    width = int(token.max()) + 1
    pairs, unit = np.unique(text * width + token, return_inverse=True)
    times = np.bincount(unit)
    left, raw = (np.bincount(unit, weights=values) / times for values in (beyond, nats))
    tokens, codes = np.unique(pairs % width, return_inverse=True)
    return tokens, codes, left - left.mean(), raw


def _read_of(texts: Sequence[Told], reader: Reader | None, alpha: float) -> LostTexts:
    if reader is None:
        return LostTexts(len(texts), (), ())
    words = [(reader((each.token,)).strip(), each) for each in most_lost(texts, alpha)]
    named = [(word, each) for word, each in words if word and "\ufffd" not in word][:NAMED]
    worst = [LostText(text.sample, tuple(_pieces(reader, text))) for text in texts[:TEXTS]]
    return LostTexts(len(texts), tuple(named), tuple(worst))


def _pieces(reader: Reader, text: Told) -> Iterator[tuple[str, float]]:
    """What each token adds to the text; those that are parts of one character, together."""
    begin = 0
    for end in range(1, len(text.tokens) + 1):
        before = text.tokens[begin - 1 : begin] if begin else ()
        said = reader(text.tokens[begin - len(before) : end])
        said = said[len(reader(before) if before else "") :]
        if said.endswith("\ufffd") and end < len(text.tokens):
            continue
        yield said, sum(text.nats[begin:end])
        begin = end


def _reader(run: Run, workspace: Workspace, responses: Sequence[Response]) -> Reader | None:
    """What reads a run's tokens as the texts stored beside them; None where nothing does."""
    known = [each for each in responses if each.token_ids and each.kind != "generation"][:3]
    for place in places_of(run, workspace):
        reader = reader_of(place, workspace)
        if reader and all(_plain(each.text) in _plain(reader(each.token_ids)) for each in known):
            return reader
    return None


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _changed(
    anchor: Sequence[Response], candidate: Sequence[Response], pairs: Mapping[str, Paired]
) -> dict[str, tuple[Changed, ...]]:
    """Task -> the samples that lost most, of those whose first answers differ."""
    before, after = (
        {
            (each.task, each.sample_id): each.text
            for each in reversed(side)
            if each.kind == "generation" and each.error is None
        }
        for side in (anchor, candidate)
    )
    found: dict[str, tuple[Changed, ...]] = {}
    for name, paired in pairs.items():
        task = MetricName.parse(name).task
        if task in found:
            continue
        worst = sorted(zip(-paired.harm, paired.ids, strict=True))
        both = [
            Changed(sample, before[task, sample], after[task, sample])
            for harm, sample in worst
            if harm < 0 and (task, sample) in before and (task, sample) in after
        ]
        if different := [each for each in both if each.before != each.after]:
            found[task] = tuple(different[:TEXTS])
    return found


def _place(response: Response) -> Place:
    return response.task, response.sample_id, response.kind, response.index


def _change(before: float, after: float) -> float:
    if before == after:
        return 0.0
    return max(-CERTAIN, min(CERTAIN, after - before))
