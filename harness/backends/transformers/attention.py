"""The attention of tokens that stand in one pass and belong to many texts, each to its own.

A model is given its tokens as rows of length one, each with its position; what a token looks at is
found here. Sums are made in shapes that depend on a token's position alone: `QUERIES` places of a
text ask together, over keys up to a multiple of `KEYS`. So a value hangs neither on what else is
in the pass nor on where a text was cut, to the last bit where the processor's products of
`ROWS` rows and more have one kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from harness.backends.transformers.causal import ROWS, Causal

NAME = "ratchet"
"""The name under which transformers finds this attention, while a pass is being read."""
QUERIES, KEYS = 16, 128
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# Queries that one product has at least a multiple of: with fewer its rounding hangs on the thread.
_LEAST = 4


@dataclass(frozen=True, slots=True)
class Query:
    """What one layer asks: queries (rows, heads, width), keys and values (rows, key heads, width).

    `seen` says which places a place sees in this kind of layer. `cap` bounds scores softly; `sinks`
    are scores, one a head, of nothing.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    seen: Seen
    scale: float | None
    cap: float | None
    sinks: Tensor | None


class Lookup(Protocol):
    """Where the tokens of a pass find what they look at. Called once for each layer, in order.

    With `takes_texts` rows are whole texts of one length: all tensors are (texts, heads, length,
    width), and so is the result.
    """

    takes_texts: bool

    def __call__(self, query: Query) -> Tensor:
        """(rows, heads, width of values)."""
        ...


@dataclass(slots=True)
class Seen:
    """Which places a place sees: the model's own mask of one kind of layer, as a function."""

    sees: Callable[[int, int, Tensor, Tensor], Tensor]
    made: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)
    firsts: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def first(self, *places: int) -> list[int]:
        """The first place that each of `places` sees; those behind see none before it."""
        if places not in self.firsts:
            asking, keys = torch.tensor(places)[:, None], torch.arange(max(places) + 1)[None]
            seen = self.sees(0, 0, asking, keys).expand(len(places), keys.shape[1])
            self.firsts[places] = seen.byte().argmax(dim=1).tolist()
        return self.firsts[places]

    def mask(self, places: Tensor, width: int, like: Tensor) -> Tensor:
        """0 where it is seen and -inf elsewhere, (places, width), in the dtype of `like`."""
        keys = torch.arange(width, device=like.device)
        seen = self.sees(0, 0, places[:, None], keys[None]).expand(len(places), width)
        mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
        return mask.masked_fill_(~seen, float("-inf"))

    def blocks(self, first: int, count: int, groups: int, width: int, like: Tensor) -> Tensor:
        """The mask of so many blocks of places from block `first`, (blocks, 1, groups x `QUERIES`,
        width).
        """
        key = "blocks", first, count, groups, width
        if key not in self.made:
            places = torch.arange(first * QUERIES, (first + count) * QUERIES, device=like.device)
            mask = self.mask(places, width, like).view(count, 1, 1, QUERIES, width)
            mask = mask.expand(-1, -1, groups, -1, -1)
            self.made[key] = mask.reshape(count, 1, groups * QUERIES, width)
        return self.made[key]

    def rows(self, name: tuple[int, ...], places: Tensor, width: int, like: Tensor) -> Tensor:
        """The mask of one place a row, (rows, 1, 1, width). One `name` has the same places."""
        key = "rows", *name
        if key not in self.made:
            self.made[key] = self.mask(places, width, like)[:, None, None]
        return self.made[key]

    def text(self, length: int, groups: int, like: Tensor) -> Tensor:
        """The mask of a text read from its beginning, (1, 1, groups x length, length)."""
        key = "text", length, groups
        if key not in self.made:
            mask = self.mask(torch.arange(length, device=like.device), length, like)
            mask = mask.expand(groups, -1, -1)
            self.made[key] = mask.reshape(1, 1, groups * length, length)
        return self.made[key]


_LOOKUP: ContextVar[Lookup] = ContextVar("lookup")


@contextlib.contextmanager
def looking_up(causal: Causal, lookup: Lookup) -> Iterator[None]:
    """Within the `with` block the model's layers of attention ask `lookup`."""
    _register()
    owned = (getattr(module, "config", None) for module in causal.base.modules())
    configs: dict[int, Any] = {
        id(config): config for config in owned if hasattr(config, "_attn_implementation_internal")
    }
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    token = _LOOKUP.set(lookup)
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        # cuDNN makes a plan for every new shape, which takes 100 times as long as the attention.
        on_cpu = causal.device.type == "cpu"
        with contextlib.nullcontext() if on_cpu else sdpa_kernel(_KERNELS):
            yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        _LOOKUP.reset(token)


def read(
    causal: Causal,
    tokens: Sequence[int],
    places: Sequence[int],
    lookup: Lookup,
) -> Tensor:
    """The states, (tokens, width), of tokens at those places of their texts, which `lookup` knows.

    The rows that fill up are behind the others, where `lookup` sees them too.
    """
    more = [0] * (-len(tokens) % ROWS)
    ids = torch.tensor([*tokens, *more], device=causal.device)
    positions = torch.tensor([*places, *more], device=causal.device)
    return read_rows(causal, ids, positions, lookup)[: len(tokens)]


def read_rows(
    causal: Causal, ids: Tensor, places: Tensor, lookup: Lookup, **arguments: Any
) -> Tensor:
    """The states, (tokens, width), of tokens on the device, as many as are a multiple of `ROWS`."""
    told = arguments or {"use_cache": False}
    with looking_up(causal, lookup):
        return causal.states(ids[:, None], position_ids=places[:, None], **told)[:, 0]


def _register() -> None:
    from transformers import masking_utils
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    masking_utils.AttentionMaskInterface.register(NAME, _mask)
    utilities: Any = masking_utils
    find = getattr(utilities, "find_packed_sequence_indices", None)
    if find is not None and find.__module__ != __name__:
        utilities.find_packed_sequence_indices = _unless_looking_up(find)


def _unless_looking_up(find: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """`find` several texts in one row, for which transformers reads from the device at every pass:
    in ours a row is of one text.
    """

    def found(position_ids: Tensor) -> Any:
        return find(position_ids) if _LOOKUP.get(None) is None else None

    return found


def _mask(*args: Any, mask_function: Any, attention_mask: Any = None, **settings: Any) -> Seen:
    if attention_mask is not None or settings.get("use_vmap"):
        raise NotImplementedError("the model masks by more than places")
    return Seen(mask_function)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sinks: Tensor | None = None,
    position_ids: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it, with tensors (rows, heads, 1, width)."""
    lookup = _LOOKUP.get()
    single = query.shape[2] == key.shape[2] == 1
    if not isinstance(attention_mask, Seen) or not (single or lookup.takes_texts):
        raise NotImplementedError("the model's attention has a way of its own")
    if any(isinstance(other, Tensor) for other in others.values()):
        raise NotImplementedError("the model's attention is told more than places")
    sinks = s_aux if sinks is None else sinks
    if lookup.takes_texts:
        texts = Query(query, key, value, attention_mask, scaling, softcap, sinks)
        return lookup(texts).transpose(1, 2), None
    q, k, v = (tensor[:, :, 0] for tensor in (query, key, value))
    return lookup(Query(q, k, v, attention_mask, scaling, softcap, sinks))[:, None], None


def weigh(
    query: Query, asking: Tensor, keys: Tensor, values: Tensor, mask: Tensor, each: int
) -> Tensor:
    """Attention of `asking` (batch, key heads, n, width) over (batch, key heads, length, width).

    n holds, for each head that shares a key head, `each` places; `mask` is (batch, 1, n, length).
    """
    rows = asking.shape[2]
    missing = -rows % _LEAST
    asking = torch.nn.functional.pad(asking, (0, 0, 0, missing))
    if mask.shape[2] > 1:
        mask = torch.nn.functional.pad(mask, (0, 0, 0, missing))
    if query.cap is None and query.sinks is None:
        found = scaled_dot_product_attention(asking, keys, values, mask, scale=query.scale)
        return found[:, :, :rows]
    scale = asking.shape[-1] ** -0.5 if query.scale is None else query.scale
    scores = asking @ keys.transpose(2, 3) * scale
    if query.cap is not None:
        scores = (scores / query.cap).tanh() * query.cap
    scores = scores + mask
    if query.sinks is not None:
        heads = keys.shape[1]
        sinks = query.sinks.view(1, heads, -1, 1, 1).expand(len(scores), -1, -1, each, 1)
        sinks = sinks.reshape(len(scores), heads, -1, 1)
        sinks = torch.nn.functional.pad(sinks, (0, 0, 0, missing))
        scores = torch.cat([scores, sinks], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    return (weights[..., : values.shape[2]] @ values)[:, :, :rows]
