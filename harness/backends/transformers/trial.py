"""Tries what carries a model's state before anything is scored: nothing of it is guessed."""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backends.transformers.beginnings import Beginnings
from harness.backends.transformers.causal import Causal, partial_views
from harness.backends.transformers.kv_cache import Memory, Slots
from harness.backends.transformers.lockstep import Lockstep, Reread, Way, padded
from harness.backends.transformers.passes import TreeReader
from harness.backends.transformers.prefix_tree import tree_of
from harness.backends.transformers.rows import Rows
from harness.backends.transformers.state_rows import StateRows
from harness.core.errors import UserError

Remember = Callable[[int, int], Memory]
"""(rows, length) -> an empty memory for so many texts, each at most so long."""

# What a class says that can't do what is tried: no memory of this kind is for it.
FAILURES = (
    RuntimeError, TypeError, AttributeError, ValueError, NotImplementedError, LookupError,
    AssertionError,
)  # fmt: skip

# A window wider than this is not crossed in the trial.
_WIDEST = 256
_TEXT = 12
# Tokens of the longest text that is cut in the trial.
_CUT = 44
# Settings of a model that chooses by content which parts of a text it looks at.
_CHOSEN = re.compile(r"index_topk|compress_rate")
# Tokens of a text that is read with others behind it: long, short, and those behind.
_LONG, _SHORT, _BEHIND = 64, 6, 37


def choose_memory(causal: Causal) -> Remember | None:
    """The fastest memory that gives the model's own logits; None for a model that gives no numbers.

    In this order: `Slots`; `StateRows`; transformers' cache for the model's kinds of layers; the
    cache that the model makes by itself; rereading the whole text for every token, which is slow
    and is said. Each is tried on texts of which one ends early, past the model's window where that
    is narrow.
    """
    trial = Trial(causal)
    if not trial.wanted.isfinite().all():
        return None
    if causal.leaks:
        return _rereading(causal)
    if trial.looks_at_all and trial.is_right(lambda rows, length: _slots(causal, rows, length)):
        return lambda rows, length: _slots(causal, rows, length)
    if trial.is_right(lambda rows, length: StateRows(causal, rows=rows, length=length)):
        return lambda rows, length: StateRows(causal, rows=rows, length=length)
    ways = [Way(*way) for way in itertools.product((False, True), (True, False), (True, False))]
    ways.sort(key=lambda way: (way.own, not way.placed, not way.dropped))
    nearest: tuple[float, Remember] | None = None
    for way in ways:
        remember = _lockstep(causal, way)
        distance = trial.distance(remember)
        if distance <= trial.rounding:
            return remember
        if nearest is None or distance < nearest[0]:
            nearest = distance, remember
    # In half precision rounding may choose other experts, and nothing agrees to the last digits:
    # then what is nearest counts, if it is much nearer than a forgotten beginning.
    if nearest and trial.is_rough and nearest[0] <= trial.forgotten / 5:
        return nearest[1]
    return _rereading(causal)


def side_by_side(causal: Causal) -> bool:
    """Whether `Rows` give the model's own logits; asked where `can_share` holds."""
    nothing = Beginnings(causal, [], tokens=0, at_once=1)
    return Trial(causal).is_right(
        lambda rows, length: Rows(causal, rows=rows, length=length, tokens=20, beginnings=nothing)
    )


def can_share(causal: Causal) -> bool:
    """Whether texts that are cut and read in one pass give the logits of reading each whole."""
    if not causal.pads:
        return False
    size = causal.model.get_input_embeddings().weight.shape[0]
    length = min(_CUT, _longest(causal))
    text, other = ([k * n % size for n in range(1, length + 1)] for k in (7, 11))
    # Two that part in the middle of a block of queries, one that ends early, one by itself.
    part = length * 3 // 5
    texts = [tuple(text), (*text[:part], *other[part:]), tuple(text[: part - 1]), tuple(other)]
    try:
        found = _cut_up(causal, texts, length + 3)
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return False
    rounding = 3e-2 if causal.model.dtype != torch.float32 else 1e-4
    for line, states in zip(texts, found, strict=True):
        whole = causal.logits(causal.whole(padded([line], causal.device))[0])
        apart = Trial._apart(causal.logits(states), whole)
        if not apart <= rounding:
            return False
    return True


def _cut_up(causal: Causal, texts: Sequence[tuple[int, ...]], tokens: int) -> list[Tensor]:
    """The states of each text, read in passes of at most so many tokens, what is shared once."""
    reader = TreeReader(causal, tree_of(texts, worth=1))
    read: dict[int, Tensor] = {}
    found: dict[int, Tensor] = {}
    while pieces := reader.course.take(tokens):
        states = torch.split(reader.read(pieces), [len(piece.tokens) for piece in pieces])
        reader.passed()
        for piece, own in zip(pieces, states, strict=True):
            node = piece.node
            before = node if piece.start > node.start else node.parent
            read[id(node)] = own if before is None else torch.cat([read[id(before)], own])
            if piece.ends:
                found.update(dict.fromkeys(node.texts, read[id(node)]))
    return [found[index] for index in range(len(texts))]


def _rereading(causal: Causal) -> Remember:
    logging.getLogger("ratchet").warning(
        "%s keeps no state that can be carried from token to token: its answers are written by "
        "reading the whole text again for each token, which is slow",
        type(causal.base).__name__,
    )
    return lambda rows, length: Reread(causal, refillable=causal.pads)


def _slots(causal: Causal, rows: int, length: int) -> Memory:
    return Slots(causal, rows=rows, length=length)


def _lockstep(causal: Causal, way: Way) -> Remember:
    return lambda rows, length: Lockstep(causal, way)


class Trial:
    """Texts with the logits that the model gives after reading each of them whole."""

    def __init__(self, causal: Causal) -> None:
        self.causal = causal
        config = causal.config
        size = causal.model.get_input_embeddings().weight.shape[0]
        windows = partial_views(config)
        narrow = [n for n in windows if isinstance(n, int) and n <= _WIDEST]
        # Two texts of one length and a third that ends before them, as they come in a batch.
        length = min(max([_TEXT, *(n + 4 for n in narrow)]), _longest(causal))
        self.texts = [[k * n % size for n in range(1, length + 1)] for k in (7, 11, 13)]
        self.looks_at_all = causal.pads and not windows and _only_full(config)
        self.is_rough = causal.model.dtype != torch.float32
        self.rounding = 3e-2 if self.is_rough else 1e-3
        self.wanted = self._whole(self.texts)

    @property
    def forgotten(self) -> float:
        """How far apart the logits are after another beginning."""
        begun = [[*reversed(text[:-3]), *text[-3:]] for text in self.texts]
        return self._apart(self._whole(begun), self.wanted)

    def is_right(self, remember: Remember) -> bool:
        return self.distance(remember) <= self.rounding

    def distance(self, remember: Remember) -> float:
        """How far logits written step by step are from the whole reading, over the largest."""
        try:
            return self._apart(self._written(remember), self.wanted[[0, 2, 2]])
        except FAILURES:
            return math.inf

    def _written(self, remember: Remember) -> Tensor:
        memory = remember(5, len(self.texts[0]) + 4)
        begins = [text[:-3] for text in self.texts]
        memory.admit(begins, [0, 1, 1, 2, 2])
        self._step(memory, [self.texts[k][-3] for k in (0, 1, 1, 2, 2)])
        # The rows of the second text end here; as in a batch, the last ones take their places.
        memory.keep([0, 3, 4] if not memory.refillable else [0, 4, 3])
        self._step(memory, [self.texts[k][-2] for k in (0, 2, 2)])
        logits = self.causal.logits(self._step(memory, [self.texts[k][-1] for k in (0, 2, 2)]))
        memory.keep([])
        return logits

    def _step(self, memory: Memory, tokens: Sequence[int]) -> Tensor:
        filling = [0] * (memory.begin(1) - len(tokens))
        given = torch.tensor([*tokens, *filling], device=self.causal.device)
        return memory.step(given)[: len(tokens)]

    def _whole(self, texts: Sequence[Sequence[int]]) -> Tensor:
        states = self.causal.whole(padded(texts, self.causal.device))[:, -1]
        return self.causal.logits(states)

    @staticmethod
    def _apart(a: Tensor, b: Tensor) -> float:
        scale = max(float(b.float().abs().max()), 1e-6)
        apart = float((a.float() - b.float()).abs().max()) / scale
        return apart if math.isfinite(apart) else math.inf


def require_causal(causal: Causal) -> None:
    """Find out whether texts may be filled up on the right (`causal.pads`). Raises UserError for a
    model that can't be read as text, or whose words hang on what comes after them.
    """
    longest = _longest(causal)
    length = min(_LONG, longest // 2)
    try:
        causal.leaks = _sees_later(causal, length, longest)
        seen = causal.leaks and _sees_later(causal, min(_SHORT, length), longest)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"this model can't be read as text alone: {said}",
            field=type(causal.base).__name__,
            hint="name a causal language model, or an image-text model that answers without images",
        ) from error
    if seen:
        raise UserError(
            "this is not a causal language model: what it says of a token depends on what comes "
            "after it",
            field=type(causal.base).__name__,
            hint="name a model that writes from left to right",
        )
    # Too far off to be tried: which parts of a long text are chosen may hang on its padding.
    causal.pads = not causal.leaks and not _chooses_parts(causal.config)


def _sees_later(causal: Causal, length: int, longest: int) -> bool:
    """Whether other tokens behind a text of `length` tokens move the logits within it."""
    size = causal.model.get_input_embeddings().weight.shape[0]
    text = [31 * n % size for n in range(1, length + 1)]
    behind = [17 * n % size for n in range(1, min(_BEHIND, longest - length) + 1)]
    alone = causal.logits(causal.whole(padded([text], causal.device))[0]).float()
    among = causal.whole(padded([[*text, *behind]], causal.device))[0, :length]
    apart = float((alone - causal.logits(among)).abs().max())
    spread = float((alone - alone.mean()).abs().max())
    rough = causal.model.dtype != torch.float32
    return spread > 0 and apart > (0.25 if rough else 1e-3) * spread


def _longest(causal: Causal) -> int:
    limit = getattr(causal.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 1 else 2 * _LONG


def _chooses_parts(config: Any) -> bool:
    return any(_CHOSEN.search(name) and value for name, value in vars(config).items())


def _only_full(config: Any) -> bool:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"}
