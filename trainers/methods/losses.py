"""Losses for supervised fine-tuning: focal loss, and EWC (elastic weight consolidation).

Both are measured in docs/losses.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.config.schema import EwcModel, LossModel

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100


def focal_loss(
    logits: Tensor, labels: Tensor, gamma: float, num_items_in_batch: Any = None
) -> Tensor:
    """Mean of -(1 - p)^gamma ln p over the tokens whose label isn't -100, in nats (Lin et al.,
    2017, eq. 4, without alpha). At gamma 0 bit for bit transformers' own causal loss.

    `logits` has shape (batch, time, vocabulary) and predicts the next of `labels` (batch, time).
    With `num_items_in_batch` the sum is divided by that, as gradient accumulation needs.
    """
    import torch
    from torch.nn import functional
    from transformers.loss.loss_utils import ForCausalLMLoss

    if gamma == 0:
        stock: Tensor = ForCausalLMLoss(logits, labels, logits.shape[-1], num_items_in_batch)
        return stock
    following = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].flatten().to(logits.device)
    nll = functional.cross_entropy(
        logits.float().flatten(0, 1), following, ignore_index=IGNORED, reduction="none"
    )
    hardness = (-torch.expm1(-nll)).clamp(min=0) ** gamma
    count = (following != IGNORED).sum().clamp(min=1)
    return torch.sum(hardness * nll) / (count if num_items_in_batch is None else num_items_in_batch)


@dataclass(frozen=True, slots=True)
class Ewc:
    """What a model's trainable weights were, and how much each of them matters to old data.

    `fisher` is the diagonal of the empirical Fisher information, never negative: the mean over
    samples of the squared gradient of the sample's mean NLL per token.
    """

    anchor: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor]
    weight: float

    @classmethod
    def of(cls, model: Any, rows: Sequence[Mapping[str, Sequence[int]]], weight: float) -> Ewc:
        """Measure a model on rows of `input_ids` and `labels`. It is left as it was."""
        import torch

        from harness.backends.transformers.causal import evaluating

        trainable = dict(_trainable(model))
        fisher = {name: torch.zeros_like(p) for name, p in trainable.items()}
        with evaluating(model), torch.enable_grad(), _gradients_of_its_own(trainable):
            for row in rows:
                batch = {
                    key: torch.tensor([list(row[key])], device=model.device)
                    for key in ("input_ids", "labels")
                }
                model.zero_grad()
                model(**batch, use_cache=False).loss.backward()
                for name, parameter in trainable.items():
                    if parameter.grad is not None:
                        fisher[name] += parameter.grad**2 / len(rows)
        anchor = {name: p.detach().clone() for name, p in trainable.items()}
        return cls(anchor, fisher, weight)

    def penalty(self, model: Any) -> Tensor:
        """Weight / 2 times the sum of fisher times the squared distance from the anchor
        (Kirkpatrick et al., 2017, eq. 3). 0 at the anchor.
        """
        import torch

        terms = [
            (self.fisher[name].to(p.device) * (p - self.anchor[name].to(p.device)) ** 2).sum()
            for name, p in _trainable(model)
        ]
        return self.weight / 2 * torch.stack(terms).sum()

    def save(self, path: Path) -> None:
        """As one safetensors file, whole or not at all."""
        from safetensors.torch import save

        from harness.core.files import write_atomic

        kinds = (("anchor", self.anchor), ("fisher", self.fisher))
        tensors = {
            f"{kind}.{name}": tensor.detach().cpu().contiguous()
            for kind, part in kinds
            for name, tensor in part.items()
        }
        write_atomic(path, save(tensors))

    @classmethod
    def load(cls, path: Path, weight: float) -> Ewc:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"what EWC remembers can't be read: {error}",
                file=path,
                hint="begin the training anew with --again",
            ) from error

        def part(kind: str) -> dict[str, Tensor]:
            begin = f"{kind}."
            return {k.removeprefix(begin): v for k, v in tensors.items() if k.startswith(begin)}

        return cls(part("anchor"), part("fisher"), weight)


def prepared_ewc(
    path: Path,
    model: Any,
    rows: Sequence[Mapping[str, Sequence[int]]],
    settings: EwcModel,
    *,
    seed: int,
) -> Ewc:
    """What `path` remembers; measured and written there first, on `samples` of the rows.

    A training that goes on must be held to where it began, not to where it was interrupted.
    """
    import numpy as np

    if not path.exists():
        generator = np.random.Generator(np.random.Philox(seed))
        chosen = generator.permutation(len(rows))[: settings.samples]
        if len(chosen) == 0:
            raise UserError(
                "EWC has no row to measure on",
                field="loss.ewc.source",
                hint="name a source of the mix that has rows to learn from",
            )
        Ewc.of(model, [rows[int(i)] for i in chosen], settings.weight).save(path)
    return Ewc.load(path, settings.weight)


def with_loss(trainer_class: type[Any], settings: LossModel, ewc: Ewc | None = None) -> type[Any]:
    """A Trainer's class with these losses in place of its own; itself where they are stock."""
    if settings.focal_gamma == 0 and ewc is None:
        return trainer_class

    class WithLoss(trainer_class):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            if settings.focal_gamma == 0:
                loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            else:
                loss, outputs = self._focal(model, inputs, num_items_in_batch)
            if ewc is not None:
                # A sum over micro-batches that are not divided again must hold the penalty once.
                parts = 1 if num_items_in_batch is None else self.args.gradient_accumulation_steps
                loss = loss + ewc.penalty(model) / parts
            return (loss, outputs) if return_outputs else loss

        def _focal(self, model: Any, inputs: Any, count: Any) -> tuple[Any, Any]:
            given = {key: value for key, value in inputs.items() if key != "labels"}
            outputs = model(**{**given, "use_cache": False})
            loss = focal_loss(outputs.logits, inputs["labels"], settings.focal_gamma, count)
            if count is not None and self.args.average_tokens_across_devices:
                # The count is of all processes, over which gradients are averaged once more.
                loss = loss * self.accelerator.num_processes
            return loss, outputs

    WithLoss.__name__ = trainer_class.__name__
    return WithLoss


def _trainable(model: Any) -> Iterator[tuple[str, Any]]:
    """Names without the prefix that a wrapper for several processes puts before them."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name.removeprefix("module."), parameter


@contextmanager
def _gradients_of_its_own(trainable: Mapping[str, Any]) -> Iterator[None]:
    kept = {name: parameter.grad for name, parameter in trainable.items()}
    for parameter in trainable.values():
        parameter.grad = None
    try:
        yield
    finally:
        for name, parameter in trainable.items():
            parameter.grad = kept[name]
