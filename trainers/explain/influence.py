"""How much learning from each row raised the loss on given texts: TracIn, one direction at a time.

A step of plain gradient descent on a row moves the weights by −rate · g(row), and so raises the
loss of the texts by −rate · g(row) · g(texts). The texts' gradient is one vector, so that of each
row only its share along that vector is needed: a forward derivative, many rows at once, with no
gradient of a row ever held. It is exact, where a random projection of each would not be.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.attribution.shared import begun, common

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
TOKENS = 1024
"""Padded tokens of the rows that are read at once."""
STOPS = 4
"""Places on the way of a segment at which the texts' gradient is taken."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a model reads, and beside each token itself where it is to be learned, −100 where not;
    both of one length.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learned(self) -> int:
        """How many tokens are learned; the first one never is, for nothing stands before it."""
        return sum(label != IGNORED for label in self.labels[1:])


def influence(
    model: Any,
    rows: Sequence[Tokens],
    texts: Sequence[Tokens],
    *,
    end: Mapping[str, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[float]:
    """What a unit step of gradient descent on each of `rows` adds to the loss of `texts`, by their
    gradients over the model's trainable weights; > 0 where it does harm. As `on_the_way` takes it.
    """
    found = on_the_way(model, rows, texts, end=end, progress=progress)
    return [-slope for _, slope in found]


def on_the_way(
    model: Any,
    rows: Sequence[Tokens],
    texts: Sequence[Tokens],
    *,
    end: Mapping[str, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[tuple[float, float]]:
    """The loss of each of `rows`, and its derivative along the gradient of the loss of `texts`.

    With `end`, the trainable weights that the model was trained to, the texts' gradient is its mean
    on the straight way there, so that its product with the way is the loss that was gained on it;
    at either end alone it may well point elsewhere. The rows are read half-way.

    A row's loss is the sum over its learned tokens, in nats, as it stands in a batch's; that of the
    texts is the mean over them of each one's mean per token. In evaluation mode, so without
    dropout; the model and its random states are left as they were.
    """
    import torch

    from harness.backends.transformers.causal import evaluating

    begin = {name: p.detach().clone() for name, p in trainable(model).items()}
    try:
        with evaluating(model):
            direction = {name: torch.zeros_like(p) for name, p in begin.items()}
            for number in range(STOPS if end else 1):
                if end:
                    _put(model, begin, end, (number + 0.5) / STOPS)
                for name, part in gradient(model, texts).items():
                    direction[name] += part / (STOPS if end else 1)
            if end:
                _put(model, begin, end, 0.5)
            along: list[tuple[int, tuple[float, float]]] = []
            for batch in batches(rows):
                found = _along(model, [rows[i] for i in batch], direction)
                along.extend(zip(batch, found, strict=True))
                progress(len(along), len(rows))
    finally:
        _put(model, begin, begin, 0.0)
    return [found for _, found in sorted(along)]


def trainable(model: Any) -> dict[str, Any]:
    """What is trained of a model, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _put(model: Any, begin: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> None:
    import torch

    with torch.no_grad():
        for name, p in trainable(model).items():
            p.copy_(begin[name] + share * (end[name].to(p.device) - begin[name]))


def gradient(model: Any, texts: Sequence[Tokens]) -> dict[str, Tensor]:
    """Of the texts' mean loss per token, by the name of each trainable weight."""
    import torch

    weights = trainable(model)
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    for batch in batches(texts):
        some = [texts[i] for i in batch]
        shares = torch.tensor([1 / max(1, text.learned) / len(texts) for text in some])
        with torch.enable_grad():
            losses = _losses(model, some)
            loss = (losses * shares.to(losses.device)).sum()
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, part in zip(weights, found, strict=True):
            if part is not None:
                total[name] += part
    return total


def batches(rows: Sequence[Tokens]) -> Iterator[list[int]]:
    """Numbers of rows, those of like length together, as many as `TOKENS` padded ones hold."""
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda i: -len(rows[i].ids)):
        if batch and len(rows[batch[0]].ids) * (len(batch) + 1) > TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def losses_at(model: Any, rows: Sequence[Tokens], weights: Mapping[str, Tensor]) -> list[float]:
    """The loss of each row with `weights` in place of the trainable ones, which come back."""
    import torch

    from harness.backends.transformers.causal import evaluating

    begin = {name: p.detach().clone() for name, p in trainable(model).items()}
    found: list[tuple[int, float]] = []
    try:
        _put(model, weights, weights, 0.0)
        with evaluating(model), torch.no_grad():
            for batch in batches(rows):
                losses = _losses(model, [rows[i] for i in batch])
                found.extend(zip(batch, losses.tolist(), strict=True))
    finally:
        _put(model, begin, begin, 0.0)
    return [loss for _, loss in sorted(found)]


def _along(
    model: Any, rows: Sequence[Tokens], direction: Mapping[str, Tensor]
) -> list[tuple[float, float]]:
    """Each row's loss, and its derivative along a direction in the weights."""
    try:
        return _forward(model, rows, direction)
    except (NotImplementedError, RuntimeError) as error:
        # Kernels of quantized weights, for one, have a backward derivative alone.
        if "forward" not in str(error).lower() and not isinstance(error, NotImplementedError):
            raise
        return [_backward(model, row, direction) for row in rows]


def _forward(
    model: Any, rows: Sequence[Tokens], direction: Mapping[str, Tensor]
) -> list[tuple[float, float]]:
    import torch
    from torch.autograd import forward_ad
    from torch.nn.attention import SDPBackend, sdpa_kernel

    dual: Any = forward_ad
    with torch.no_grad(), dual.dual_level(), sdpa_kernel(SDPBackend.MATH):
        moving = {
            name: dual.make_dual(p.detach(), direction[name])
            for name, p in trainable(model).items()
        }
        losses = _losses(model, rows, moving)
        loss, tangent = dual.unpack_dual(losses)
        slopes = torch.zeros_like(loss) if tangent is None else tangent
        return list(zip(loss.tolist(), slopes.tolist(), strict=True))


def _backward(model: Any, row: Tokens, direction: Mapping[str, Tensor]) -> tuple[float, float]:
    import torch

    weights = trainable(model)
    with torch.enable_grad():
        [loss] = _losses(model, [row])
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    slope = sum(
        float((part * direction[name]).sum())
        for name, part in zip(weights, found, strict=True)
        if part is not None
    )
    return float(loss), slope


def _losses(model: Any, rows: Sequence[Tokens], moving: Mapping[str, Tensor] | None = None) -> Any:
    """The sum over each row's learned tokens, in nats: shape (rows,). `moving` stands in place of
    the model's own trainable weights.
    """
    import torch
    from torch.func import functional_call
    from torch.nn import functional

    def call(**asked: Any) -> Any:
        return model(**asked) if moving is None else functional_call(model, weights, (), asked)

    weights = dict(moving or {})
    device = model.device
    longest = max(len(row.ids) for row in rows)
    start = begun(model, rows[0].ids[: _told_alike(rows)], call) if len(rows) > 1 else None
    before = start.length if start else 0

    def padded(name: str, by: int) -> Tensor:
        filled = [[*getattr(r, name), *[by] * (longest - len(r.ids))] for r in rows]
        return torch.tensor(filled, device=device)[:, before:]

    mask = torch.tensor([[i < len(r.ids) for i in range(longest)] for r in rows], device=device)
    asked: dict[str, Any] = {
        "input_ids": padded("ids", 0),
        "attention_mask": mask.long(),
        "use_cache": False,
        **(start.carried(len(rows)) if start is not None else {}),
    }
    labels = padded("labels", IGNORED)[:, 1:]
    learned = labels != IGNORED
    # Logits where something is learned: those of a long prompt would cost as much, for nothing.
    kept = learned.any(0).nonzero()[:, 0]
    if _keeps_some(model):
        asked["logits_to_keep"] = kept
    found = call(**asked)
    logits = found.logits if _keeps_some(model) else found.logits[:, kept]
    labels, learned = labels[:, kept], learned[:, kept]
    nll = functional.cross_entropy(logits[learned].float(), labels[learned], reduction="none")
    row = torch.arange(len(rows), device=device)[:, None].expand_as(labels)[learned]
    return torch.zeros(len(rows), device=device).index_add(0, row, nll)


def _told_alike(rows: Sequence[Tokens]) -> int:
    """How many tokens all rows begin with, before any of them is learned: the last one not to be
    learned says the first that is.
    """
    silent = min(
        next((i for i, label in enumerate(row.labels[1:], 1) if label != IGNORED), len(row.ids))
        for row in rows
    )
    return max(0, min(silent - 1, common([row.ids for row in rows])))


def _keeps_some(model: Any) -> bool:
    """Whether it can be asked for the logits of some places alone."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(whole.forward).parameters
