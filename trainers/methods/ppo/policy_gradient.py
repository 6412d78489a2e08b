"""The mathematics of PPO: advantages, clipped losses, entropy and divergence, as pure functions.

Every array is a torch tensor of shape (batch, time) over the tokens of the answers; `mask` is 1
for a token that the policy wrote and 0 for padding. Nothing here knows of a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates and the returns they imply (Schulman et al., 2016, eq. 16).

    A_t = sum over l of (gamma lambda)^l d_{t+l}, with d_t = r_t + gamma V_{t+1} - V_t; an answer
    ends where its mask does, and the value after its end is 0. Masks are 1s, then 0s. Advantages
    are 0 on padding; returns are advantages + values.
    """
    import torch

    values = values * mask
    following = torch.zeros_like(values)
    following[:, :-1] = values[:, 1:]
    deltas = (rewards + gamma * following - values) * mask
    advantages = torch.zeros_like(deltas)
    carried = torch.zeros_like(deltas[:, 0])
    # From the end, since each advantage holds the ones behind it; no gradient flows through here.
    for step in range(deltas.shape[1] - 1, -1, -1):
        carried = deltas[:, step] + gamma * lambda_ * carried
        advantages[:, step] = carried
    return advantages * mask, (advantages + values) * mask


def shaped_rewards(scores: Tensor, divergence: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Rewards per token: -coefficient times the divergence, and the score on the last token.

    `scores` has shape (batch,). An answer without a token has nowhere to be rewarded.
    """
    import torch

    rewards = -coefficient * divergence * mask
    lengths = mask.sum(dim=1).long()
    rows = torch.arange(len(scores), device=scores.device)[lengths > 0]
    rewards[rows, lengths[lengths > 0] - 1] += scores[lengths > 0].to(rewards.dtype)
    return rewards


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) per token, r = exp(new - old) of log-probabilities
    in nats (Schulman et al., 2017, eq. 7). Lower is better.
    """
    import torch

    ratio = torch.exp(new - old)
    return torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error per token, the worse of the prediction and the prediction held within
    `clip` of the one made at sampling. Lower is better.
    """
    import torch

    held = torch.clamp(new, old - clip, old + clip)
    return 0.5 * torch.max((new - returns) ** 2, (held - returns) ** 2)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the distribution over the last axis, 0 to ln(its size)."""
    logp = logits.log_softmax(dim=-1)
    return -(logp.exp() * logp).sum(dim=-1)


def divergence_k3(policy: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - 1 - d with d = reference - policy log-probability of the sampled token: an unbiased
    estimate per token, in nats and never negative, of KL(policy || reference) (Schulman, 2020).
    """
    import torch

    difference = reference - policy
    return torch.exp(difference) - 1 - difference


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and variance 1 over the unmasked, 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * (variance + 1e-8).rsqrt() * mask


def clipped_share(new: Tensor, old: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Share of tokens whose probability ratio has left [1 - clip, 1 + clip]."""
    import torch

    outside = ((torch.exp(new - old) - 1).abs() > clip).to(mask.dtype)
    return masked_mean(outside, mask)
