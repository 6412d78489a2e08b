"""BERTScore: greedy matching of contextual token embeddings."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.core.errors import UserError
from harness.core.told_language import english_throughout
from harness.core.types import Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support import embedding_cache as embedding_store
from harness.metrics.support.encoders import (
    EMBEDDED,
    batches_by_length,
    cut_note,
    cut_off,
    described,
    digest,
    forget_models,
    load,
    max_tokens,
    readable_text,
    require,
    resolve,
    tokens_per_batch,
)
from harness.metrics.support.items import (
    Outcome,
    Pair,
    score_responses,
    with_references_that_speak,
)
from harness.metrics.support.silence import COUNTED_AS_WORST, says_nothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

UNREADABLE = (
    f"the embedded encoder ({EMBEDDED}) reads English only: set `model` to a multilingual one "
    "(say `bert-base-multilingual-cased` or `bert-base-chinese`, a hub id or a folder)"
)
_CACHE_BYTES = 512 * 2**20
_PAIR_TOKENS = 4096


class BertScore(NamedTuple):
    """Arrays of shape (n,), 0 (nothing alike) to 1 (the same text); higher is better."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def bertscore(
    candidates: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    model: str | None = None,
    layer: int | None = None,
    idf: bool = False,
) -> BertScore:
    """BERTScore of each candidate against its reference, or against the best of several.

    Zhang et al. 2020, equal to bert-score 0.3.13 without rescaling. `model` is a hub id or a
    folder, the embedded all-MiniLM-L6-v2 (English) by default; `layer` counts from 1, by default
    the one that bert-score recommends for the model, else the last. With `idf` a token weighs
    ln((N + 1) / (references with it + 1)); where all tokens of a text have weight 0 they count
    alike. Precision, recall and F1 are each the largest over a candidate's references. A text
    without tokens scores 0; one that is longer than the encoder reads is cut.

    Embeddings are cached in memory (at most 512 MiB, the least recently used go first) by encoder
    and text; those of the references also in the workspace, where there is one, so that they are
    computed once for all checkpoints. Raises UserError where the lengths differ or the model is
    missing.
    """
    import numpy as np

    groups = [[r] if isinstance(r, str) else list(r) for r in references]
    if len(candidates) != len(groups):
        raise UserError(
            f"{len(candidates)} candidates, but references for {len(groups)}",
            hint="give each candidate its reference, or a list of them",
        )
    if not all(groups):
        raise UserError(f"candidate {groups.index([])} has no reference")
    if not groups:
        return BertScore(np.zeros(0), np.zeros(0), np.zeros(0))
    encoder = _encoder(model, layer)
    flat = [reference for group in groups for reference in group]
    owners = [row for row, group in enumerate(groups) for _ in group]
    weigh = _idf_weights(encoder, flat) if idf else encoder.plain_weights
    encoder.recall(sorted(set(flat)))
    texts = dict.fromkeys([*candidates, *flat])
    embedded = dict(zip(texts, encoder.embed(list(texts)), strict=True))
    scores = _match(
        [embedded[candidates[row]] for row in owners], [embedded[r] for r in flat], weigh
    )
    best = np.full((len(groups), 3), -np.inf)
    np.maximum.at(best, np.array(owners), scores)
    return BertScore(best[:, 0], best[:, 1], best[:, 2])


class Embedded(NamedTuple):
    """One text: its token ids, and their unit vectors of shape (tokens, width)."""

    ids: tuple[int, ...]
    vectors: Tensor


Weigh = Callable[[tuple[int, ...]], list[float]]


class _Encoder:
    """A model cut at one layer, with what it has embedded so far."""

    def __init__(self, tokenizer: Any, model: Any, key: str) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.key = key
        self.limit = max_tokens(tokenizer, model)
        self.ends = {tokenizer.cls_token_id, tokenizer.sep_token_id} - {None}

    def plain_weights(self, ids: tuple[int, ...]) -> list[float]:
        """1 for every token, and 0 for the special ones at both ends (CLS, SEP)."""
        return [0.0 if token in self.ends else 1.0 for token in ids]

    def tokenize(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        cleaned = [readable_text(text.strip()) for text in texts]
        extra = {"add_prefix_space": True} if self._wants_prefix_space() else {}
        encoded = self.tokenizer(cleaned, truncation=True, max_length=self.limit, **extra)
        return [tuple(ids) for ids in encoded["input_ids"]]

    def _wants_prefix_space(self) -> bool:
        return type(self.tokenizer).__name__ in ("GPT2Tokenizer", "RobertaTokenizer")

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        found = {text: hit for text in texts if (hit := EMBEDDINGS.get((self.key, text)))}
        missing = [text for text in texts if text not in found]
        if missing:
            for text, embedded in self._compute(missing):
                found[text] = embedded
                EMBEDDINGS.put((self.key, text), embedded)
        return [found[text] for text in texts]

    def recall(self, texts: Sequence[str]) -> None:
        """Embed `texts`, or take what an earlier process saved of exactly these."""
        if all((self.key, text) in EMBEDDINGS.entries for text in texts):
            return
        stored = embedding_store.load(self.key, texts)
        if stored is None:
            embedding_store.save(self.key, texts, self.embed(texts))
            return
        for text, (ids, vectors) in zip(texts, stored, strict=True):
            EMBEDDINGS.put((self.key, text), Embedded(ids, vectors))

    def _compute(self, texts: Sequence[str]) -> Iterator[tuple[str, Embedded]]:
        import torch

        ids = self.tokenize(texts)
        # Texts of similar length share a batch, so that little of it is padding. Vectors are cut to
        # each text's own tokens at once: padding must never take part in a match.
        for rows in batches_by_length([len(row) for row in ids], tokens_per_batch(self.model)):
            batch = self.tokenizer.pad(
                {"input_ids": [list(ids[row]) for row in rows]},
                return_tensors="pt",
                padding_side="right",
            )
            batch = batch.to(self.model.device)
            with torch.inference_mode():
                states = self.model(
                    batch["input_ids"], attention_mask=batch["attention_mask"]
                ).last_hidden_state
                states = torch.nn.functional.normalize(states, dim=-1).cpu()
            for row, vectors in zip(rows, states, strict=True):
                yield texts[row], Embedded(ids[row], vectors[: len(ids[row])].clone())


class EmbeddingMemory:
    """Embeddings by (encoder, text): at most `limit` bytes, the least recently used go first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.entries: OrderedDict[tuple[str, str], Embedded] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Embedded | None:
        if key in self.entries:
            self.entries.move_to_end(key)
        return self.entries.get(key)

    def put(self, key: tuple[str, str], value: Embedded) -> None:
        if key in self.entries:
            self.held -= self.entries.pop(key).vectors.nbytes
        self.entries[key] = value
        self.held += value.vectors.nbytes
        while self.held > self.limit and len(self.entries) > 1:
            self.held -= self.entries.popitem(last=False)[1].vectors.nbytes

    def clear(self) -> None:
        self.entries.clear()
        self.held = 0


EMBEDDINGS = EmbeddingMemory(_CACHE_BYTES)
"""What this process has embedded so far."""


def forget() -> None:
    """Let go of all embeddings and of the encoders: the next call loads and computes anew."""
    EMBEDDINGS.clear()
    _wrap.cache_clear()
    forget_models()


def _encoder(model: str | None, layer: int | None) -> _Encoder:
    name = resolve(model)
    if layer is None and model is not None:
        layer = _recommended_layer(model)
    return _wrap(*load(name, "AutoModel", layers=layer))


@lru_cache(maxsize=4)
def _wrap(tokenizer: Any, model: Any) -> _Encoder:
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        model = model.encoder
    return _Encoder(tokenizer, model, digest(tokenizer, model))


def _recommended_layer(model: str) -> int | None:
    from bert_score.utils import model2layers

    layer: int | None = model2layers.get(model)
    return layer


def _idf_weights(encoder: _Encoder, references: Sequence[str]) -> Weigh:
    counts = Counter(token for ids in encoder.tokenize(references) for token in set(ids))
    total = len(references) + 1
    return lambda ids: [math.log(total / (counts[token] + 1)) for token in ids]


def _match(
    candidates: Sequence[Embedded], references: Sequence[Embedded], weigh: Weigh
) -> NDArray[np.float64]:
    """(precision, recall, F1) of each pair, shape (pairs, 3)."""
    import numpy as np

    scores = np.zeros((len(candidates), 3))
    sizes = [max(len(c.ids), len(r.ids)) for c, r in zip(candidates, references, strict=True)]
    # Pairs of similar length together, because each pair is padded to the longest of its batch in
    # both directions.
    for rows in batches_by_length(sizes, _PAIR_TOKENS):
        similarity = _similarities([candidates[r] for r in rows], [references[r] for r in rows])
        for sides, axis, column in ((candidates, 2, 0), (references, 1, 1)):
            nearest = similarity.amax(dim=axis).double().numpy()
            for best, row in zip(nearest, rows, strict=True):
                scores[row, column] = _weighted(best, weigh(sides[row].ids))
    # A text with nothing but the two special tokens has nothing to match.
    empty = [
        len(c.ids) <= 2 or len(r.ids) <= 2 for c, r in zip(candidates, references, strict=True)
    ]
    scores[empty] = 0.0
    both = scores[:, 0] + scores[:, 1]
    product = 2 * scores[:, 0] * scores[:, 1]
    scores[:, 2] = np.divide(product, both, where=both != 0, out=np.zeros(len(scores)))
    return scores


def _similarities(candidates: Sequence[Embedded], references: Sequence[Embedded]) -> Tensor:
    """Cosines of shape (pairs, candidate tokens, reference tokens), none below 0.

    In bert-score padding has cosine 0, so a token's best cosine is at least 0 in pairs that their
    batch pads, but not in others. Here it is at least 0 in all, because a score must not depend on
    the batch.
    """
    from torch.nn.utils.rnn import pad_sequence

    left = pad_sequence([c.vectors for c in candidates], batch_first=True)
    right = pad_sequence([r.vectors for r in references], batch_first=True)
    return (left @ right.transpose(1, 2)).clamp_(min=0.0)


def _weighted(best: NDArray[np.float64], weights: list[float]) -> float:
    total = math.fsum(weights)
    if total == 0.0:
        return float(best[: len(weights)].mean())
    return float(best[: len(weights)] @ weights) / total


@dataclass(frozen=True, slots=True)
class BertScoreMetric:
    """Mean BERTScore F1 of the responses, against the references or the prompt.

    An answer that says nothing is 0. Where an answer or what it is compared with is longer than the
    encoder reads, the score says that it was cut.

    Cosines have no true zero, so the margin is absolute (`interval`). There is no idf here: its
    weights come from all references at once, and a score must not depend on what else was scored.
    """

    model: str | None = None
    layer: int | None = None
    against: Literal["references", "prompt"] = "references"

    def __post_init__(self) -> None:
        require(self.model)

    @property
    def spec(self) -> MetricSpec:
        options = [("model", described(self.model)), ("layer", str(self.layer or "default"))]
        return MetricSpec(
            "bertscore",
            "higher",
            scale="interval",
            unit="cosine",
            version="3" if self.model else "4",
            stats=("precision", "recall"),
            options=(*options, ("against", self.against)),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(with_references_that_speak(items), self._values)

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        targets = [
            sample.references
            if self.against == "references"
            else tuple(m["content"] for m in sample.prompt if m.get("role") == "user")[-1:]
            for sample, _ in pairs
        ]
        reasons = [
            self._reason(sample, response.text, wanted)
            for (sample, response), wanted in zip(pairs, targets, strict=True)
        ]
        usable = [row for row, reason in enumerate(reasons) if reason is None]
        found = bertscore(
            [pairs[row][1].text for row in usable],
            [targets[row] for row in usable],
            model=self.model,
            layer=self.layer,
        )
        values = iter(zip(*(column.tolist() for column in found), strict=True))
        notes = iter(self._notes([(pairs[row][1].text, *targets[row]) for row in usable]))
        return [
            Evidence.unscored(None, reason)
            if reason is not None
            else _evidence(next(values), next(notes))
            for reason in reasons
        ]

    def _notes(self, compared: Sequence[Sequence[str]]) -> list[str | None]:
        """Of each pair what its reader should know: that nothing was said, or what was cut."""
        if not compared:
            return []
        encoder = _encoder(self.model, self.layer)
        texts = list(dict.fromkeys(text for row in compared for text in row))
        cut = dict(zip(texts, cut_off(encoder.tokenizer, encoder.model, texts), strict=True))
        return [
            COUNTED_AS_WORST
            if says_nothing(row[0])
            else cut_note(encoder.limit)
            if any(cut[text] for text in row)
            else None
            for row in compared
        ]

    def _reason(self, sample: Sample, text: str, targets: Sequence[str]) -> str | None:
        if not targets:
            return f"the sample has no {self.against.removesuffix('s')}"
        if self.model is not None or english_throughout(sample, text):
            return None
        return UNREADABLE


def _evidence(value: tuple[float, float, float], note: str | None) -> Evidence:
    precision, recall, f1 = (0.0, 0.0, 0.0) if note == COUNTED_AS_WORST else value
    return Evidence(None, f1, reason=note, stats=(precision, recall))
