"""Log-probabilities that a training learns from are the model's own.

TRL takes hidden states through the output layer itself, to save memory, and knows of some ways in
which families scale what comes out. Of a family that it doesn't know it would learn another model's
log-probabilities, or crash; and it pads prompts on the left without saying where a text begins.
"""

from __future__ import annotations

import functools
import inspect
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.methods.base import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

NEAR = 1e-3
"""How far a token's log-probability may lie from the model's own, in nats, in whole precision."""

_TEXT = tuple(range(3, 11))
_PADS = 3


def learning_its_own(trainer: Any, temperature: float = 1.0) -> Any:
    """TRL's trainer, with the log-probabilities of its model and reference read from logits where a
    trial shows that it would take others. Slower, and right.
    """
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is None:
            continue
        inner = _bare(trainer.accelerator.unwrap_model(model))
        # A new adapter on the output layer changes nothing yet: no trial would tell.
        adapted = hasattr(inner.get_output_embeddings(), "lora_A")
        if adapted or (not _is_cut_up(model) and not _is_right(inner, temperature)):
            _read_logits(inner, temperature)
    return trainer


@contextmanager
def output_hidden(model: Any) -> Iterator[None]:
    """While TRL's trainer is made: it refuses an adapter on the output layer, past which it would
    read. `learning_its_own` has it read logits there.
    """
    layer = model.get_output_embeddings()
    if not hasattr(layer, "lora_A"):
        yield
        return
    model.get_output_embeddings = lambda: layer.base_layer
    try:
        yield
    finally:
        del model.get_output_embeddings


def require_padded_prompts(job: Job, *models: Any) -> None:
    """For trainers that pad prompts on the left: sees to it that what stands before a prompt
    changes nothing, for each of `models` as the trainer has them. Raises UserError where a model
    can't leave padding out.
    """
    for each in models:
        model = _bare(each)
        if not _is_cut_up(model) and not _leaves_padding_out(model):
            raise UserError(
                f"{job.stage.model.trainer} pads prompts to one length, and "
                f"{type(model).__name__} reads the padding: it would learn of answers that were "
                "not drawn",
                file=job.recipe.path,
                field="trainer",
                hint="train this model with sft or dpo, or take another base",
            )


def _leaves_padding_out(model: Any) -> bool:
    """By itself, or told where each text begins, as it is from then on."""
    if _is_blind_to_padding(model):
        return True
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        return False
    _say_where_texts_begin(model)
    return _is_blind_to_padding(model)


def require_ppo_forward(job: Job) -> None:
    """Raises UserError for a model that can't be asked as PPO asks."""
    model = _bare(job.model)
    known = inspect.signature(type(model).forward).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    for name in ("attention_mask", "position_ids", "logits_to_keep"):
        if name not in known:
            raise UserError(
                f"ppo gives a model `{name}`, and {type(model).__name__} takes none",
                file=job.recipe.path,
                field="trainer",
                hint="train this model with grpo, dpo or sft",
            )


def _bare(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _is_cut_up(model: Any) -> bool:
    """Whether this process doesn't have the weights, and so can try nothing."""
    return any(p.is_meta or hasattr(p, "ds_id") for p in model.parameters())


@contextmanager
def trying(model: Any) -> Iterator[Callable[[Tensor, Tensor], bool]]:
    """The model in eval mode, without gradients; gives what tells whether two tensors of
    log-probabilities are the same but for rounding. In half precision single ones may lie far
    apart, so that it is their mean distance which counts.
    """
    import torch

    from harness.backends.transformers.causal import evaluating

    whole = all(p.dtype in (torch.float32, torch.float64) for p in model.parameters())
    with evaluating(model), torch.no_grad():
        yield _all_near if whole else _near_on_average


def _all_near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float(_distance(a, b).max()) <= NEAR


def _near_on_average(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float(_distance(a, b).mean()) <= 100 * NEAR


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Two infinities are equal, though their difference is no number.
    return (a - b).abs().masked_fill(a == b, 0.0)


def _is_right(model: Any, temperature: float) -> bool:
    with trying(model) as same:
        ids = _ids(model, _TEXT)
        own = _log_probs(model(ids).logits[:, :-1] / temperature, ids[:, 1:])
        # Some trainers ask models with experts for what they balance these by.
        experts = hasattr(model.config.get_text_config(), "output_router_logits")
        more = {"output_router_logits": True} if experts else {}
        try:
            found = model(ids, labels=ids, fused_lm_head=True, **more).log_probs
        except (AttributeError, TypeError, KeyError, ValueError, RuntimeError):
            return False
        return same(found.float(), own)


def _is_blind_to_padding(model: Any) -> bool:
    import torch

    with trying(model) as same:
        alone = model(_ids(model, _TEXT)).logits.float().log_softmax(-1)
        ids = _ids(model, (*[0] * _PADS, *_TEXT))
        mask = torch.ones_like(ids)
        mask[:, :_PADS] = 0
        padded = model(ids, attention_mask=mask).logits[:, _PADS:].float().log_softmax(-1)
        return same(alone, padded)


def _ids(model: Any, tokens: tuple[int, ...]) -> Tensor:
    import torch

    return torch.tensor([tokens], device=next(model.parameters()).device)


def _log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]


def _read_logits(model: Any, temperature: float) -> None:
    """Have the model give TRL's output from its own logits."""
    from trl.trainer.utils import FusedCausalLMOutput

    inner = model.forward
    uncached = "use_cache" in inspect.signature(type(model).forward).parameters

    @functools.wraps(type(model).forward)
    def forward(
        self: Any, *words: Any, fused_lm_head: bool = False, labels: Any = None, **named: Any
    ) -> Any:
        if not fused_lm_head:
            return inner(*words, **named, **({} if labels is None else {"labels": labels}))
        items = named.pop("num_items_in_batch", None)
        if uncached:
            named["use_cache"] = False
        output = inner(*words, **named)
        logits = output.logits[:, :-1].float() / temperature
        mask = labels[:, 1:] != -100
        table = logits.log_softmax(-1)
        found = table.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        log_probs = found.masked_fill(~mask, 0)
        loss = -log_probs.sum() / (mask.sum().clamp(min=1) if items is None else items)
        extra = getattr(output, "aux_loss", None)
        if extra is None and named.get("output_router_logits"):
            extra = logits.new_zeros(())  # it has experts, and balances them by nothing
        if extra is not None:
            config = self.config.get_text_config()
            loss = loss + getattr(config, "router_aux_loss_coef", 0.0) * extra
        return FusedCausalLMOutput(
            loss=loss,
            log_probs=log_probs,
            entropy=(-table.exp() * table).sum(-1).masked_fill(~mask, 0),
            log_sum_sq_probs=(2 * table).logsumexp(-1).masked_fill(~mask, 0),
            mean_logits=logits.mean(-1).masked_fill(~mask, 0),
            is_top1=(table.argmax(-1) == labels[:, 1:]) & mask,
            label_mask=mask,
            aux_loss=extra,
        )

    model.forward = types.MethodType(forward, model)


def _say_where_texts_begin(model: Any) -> None:
    """Positions count from each row's first token, as they do where answers are drawn."""
    inner = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *words: Any, **named: Any) -> Any:
        mask = named.get("attention_mask")
        if mask is not None and mask.dim() == 2 and named.get("position_ids") is None:
            ids = named.get("input_ids", words[0] if words else None)
            if ids is not None and ids.shape == mask.shape:
                named["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        return inner(*words, **named)

    model.forward = types.MethodType(forward, model)
