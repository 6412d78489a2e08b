"""The PPO trainer: sample a rollout, learn from it for K steps, sample again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer

from harness.backends.base import GenerationSettings
from harness.backends.transformers.backend import TransformersBackend
from harness.core.errors import UserError
from trainers.distributed.sharding import gathered
from trainers.methods.ppo import policy_gradient as pg
from trainers.methods.ppo.rollout import (
    Answer,
    Evidence,
    Rollout,
    collate,
    of_all_processes,
    sample,
    seed_of,
    widened,
)
from trainers.methods.ppo.settings import VALUE_HEAD, period
from trainers.methods.reference import first_state, lent
from trainers.rewards.mixture import RewardTable

FIGURES = ("policy_loss", "value_loss", "entropy", "clip_fraction")


class Positions:
    """The training's answers by number; what they are is known once their rollout is sampled."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> int:
        return position


class RepeatedRollouts:
    """A sampler that goes over each rollout's positions `epochs` times, in an order of its own
    each time, before it turns to the next.
    """

    def __init__(self, rollouts: int, size: int, epochs: int, seed: int) -> None:
        self._rollouts, self._size, self._epochs, self._seed = rollouts, size, epochs, seed

    def __len__(self) -> int:
        return self._rollouts * self._epochs * self._size

    def __iter__(self) -> Iterator[int]:
        for number in range(self._rollouts):
            for epoch in range(self._epochs):
                yield from (number * self._size + i for i in self.permutation(number, epoch))

    def permutation(self, number: int, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of(self._seed, number, epoch))
        order: list[int] = torch.randperm(self._size, generator=generator).tolist()
        return order


class PpoTrainer(Trainer):  # type: ignore[misc]
    """`settings` is the recipe's stage. Made by `trainers.methods.ppo.make.make_ppo_trainer`."""

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        arguments: Any,
        settings: Any,
        rows: Any,
        rewards: Any,
        order: Callable[[], Sequence[int]],
        callbacks: list[Any],
    ) -> None:
        self.settings, self.ppo = settings, settings.ppo
        self.rewards, self._rows, self._order = rewards, rows, order
        self.period = period(settings)
        self.batch = settings.batch_size * settings.gradient_accumulation
        self.size = self.batch * self.ppo.minibatches
        self.rollouts = -(-settings.steps // self.period)
        self.schedule = RepeatedRollouts(
            self.rollouts, self.size, self.ppo.epochs, seed_of(arguments.seed, "minibatches")
        )
        _without_dropout(model)
        super().__init__(
            model=model,
            args=arguments,
            data_collator=lambda positions: {"positions": torch.tensor(positions)},
            train_dataset=Positions(self.rollouts * self.size),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        # Each micro-batch carries its share of the whole batch's mean; see compute_loss.
        self.model_accepts_loss_kwargs = False
        self.backend = TransformersBackend(model, tokenizer)
        self._began = _trained_before(model)
        self._forget()

    def _forget(self) -> None:
        self._current: tuple[int, Rollout] | None = None
        self._sums: dict[str, float] = defaultdict(float)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's. What was sampled before a rollback is never learned from after it."""
        self._forget()
        return super().train(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.schedule

    # -- learning ----------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's part of the mean over all tokens of the optimizer step's answers."""
        positions = inputs["positions"].tolist()
        number = positions[0] // self.size
        rollout = self.rollout(number)
        chosen = [position - number * self.size for position in positions]
        batch = self._collated([rollout.answers[i] for i in chosen])
        width = batch["mask"].shape[1]
        old = {
            name: getattr(rollout, name)[chosen, :width]
            for name in ("mask", "logp", "values", "advantages", "returns")
        }
        logits, values = self._forward(model, batch)
        loss = self._loss(logits, values, batch["targets"], old)
        # The Trainer divides by the accumulation's steps, and gradients are averaged over the
        # processes; the tokens of the step are ours to count.
        parts = self.settings.gradient_accumulation * self.accelerator.num_processes
        loss = loss * (parts / self._tokens_of_step(rollout, number))
        return (loss, {}) if return_outputs else loss

    def _loss(self, logits: Any, values: Any, targets: Any, old: Mapping[str, Any]) -> torch.Tensor:
        """The sum over this micro-batch's tokens."""
        ppo, mask = self.ppo, old["mask"]
        logp = _of_targets(logits, targets)
        policy = pg.policy_loss(logp, old["logp"], old["advantages"], ppo.clip)
        value = pg.value_loss(values, old["values"], old["returns"], ppo.value_clip)
        entropy = pg.entropy(logits)
        with torch.no_grad():
            tokens = mask.sum().item()
            seen = {"policy_loss": policy, "value_loss": value, "entropy": entropy}
            for name, tensor in seen.items():
                self._sums[name] += torch.sum(tensor * mask).item()
            clipped = pg.clipped_share(logp, old["logp"], mask, ppo.clip)
            self._sums["clip_fraction"] += clipped.item() * tokens
            self._sums["tokens"] += tokens
        total: torch.Tensor = (
            policy + ppo.value_coefficient * value - ppo.entropy_coefficient * entropy
        )
        return torch.sum(total * mask)

    def _tokens_of_step(self, rollout: Rollout, number: int) -> float:
        step = self.state.global_step % self.period
        epoch, minibatch = divmod(step, self.ppo.minibatches)
        order = self.schedule.permutation(number, epoch)
        rows = order[minibatch * self.batch : (minibatch + 1) * self.batch]
        return max(1.0, rollout.mask[rows].sum().item())

    def _forward(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """Logits (answers, T, vocabulary) at the sampling temperature and values (answers, T), of
        the states from which each token of the answers was drawn.
        """
        width = batch["targets"].shape[1]
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            logits_to_keep=width + 1,
            output_hidden_states=True,
            use_cache=False,
        )
        # Shifted by one: the state before a token is what it was drawn from, so the first token of
        # the answer belongs to the prompt's last state, and the answer's last state to no token.
        logits = outputs.logits[:, -width - 1 : -1].float() / self.settings.temperature
        states = outputs.hidden_states[-1][:, -width - 1 : -1].float()
        head = getattr(self.accelerator.unwrap_model(model).get_base_model(), VALUE_HEAD)
        return logits, head(states).squeeze(-1).float()

    def _collated(self, answers: Sequence[Answer]) -> dict[str, Any]:
        tokenizer = self.backend.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        return collate(answers, pad, self.args.device)

    # -- sampling ----------------------------------------------------------------------------

    def rollout(self, number: int) -> Rollout:
        """What is learned from in rollout `number`: sampled when it is first asked for.

        Raises UserError in the middle of a rollout that this process has not sampled.
        """
        if self._current is None or self._current[0] != number:
            if self.state.global_step % self.period:
                # Between two multiples of the period the rollout is half learned from, and it is in
                # no checkpoint: drawn anew, it would be of another policy.
                raise UserError(
                    f"PPO can't go on from step {self.state.global_step}: its rollout is gone",
                    hint=f"go back to a multiple of {self.period}",
                )
            self._current = (number, self._sampled(number))
        return self._current[1]

    def _sampled(self, number: int) -> Rollout:
        order = self._order()
        # Found by the rollout's number, never from a running position: going back to a checkpoint
        # brings the same prompts. A plan that holds a batch for every step has more rows than
        # there are rollouts to fill.
        stride = max(self.size, len(order) // self.rollouts)
        chosen = order[number * stride : number * stride + self.size]
        if len(chosen) < self.size:
            raise UserError(f"the data plan has no {self.size} prompts for rollout {number + 1}")
        share = self.size // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        rows = [self._rows[int(index)] for index in chosen[first : first + share]]
        with gathered(self):
            answers = self._answers(number, rows, first)
            evidence = self._evidence(answers, self._earned(answers, rows))
        return self._judged(of_all_processes(evidence))

    def _answers(
        self, number: int, rows: Sequence[Mapping[str, Any]], first: int
    ) -> tuple[Answer, ...]:
        settings = GenerationSettings(
            max_new_tokens=self.settings.max_new_tokens, temperature=self.settings.temperature
        )
        safety = self.rewards.safety
        return sample(
            self.backend,
            rows,
            settings,
            seed=seed_of(self.args.seed, "rollout", number),
            first=first,
            safe=safety.accepts if safety else None,
            tries=safety.tries if safety else 1,
        )

    def _earned(self, answers: Sequence[Answer], rows: Sequence[Mapping[str, Any]]) -> RewardTable:
        columns: dict[str, Any] = {
            name: [row[name] for row in rows] for name in rows[0] if name != "prompt"
        }
        columns["completion_ids"] = [list(answer.tokens) for answer in answers]
        columns["trainer_state"] = self.state
        earned: RewardTable = self.rewards.score(
            [row["prompt"] for row in rows], [answer.text for answer in answers], **columns
        )
        return earned

    def _judged(self, seen: Evidence) -> Rollout:
        """Advantages over the answers of all processes, and their figures. What was turned down, or
        has no reward, is not learned from.
        """
        answers, logp, reference = seen.answers, seen.logp, seen.reference
        total = seen.earned.total
        safe = torch.tensor([[float(answer.safe)] for answer in answers], device=logp.device)
        earned = torch.tensor([value is not None for value in total], device=logp.device)
        mask = seen.mask * safe * earned.unsqueeze(1)
        scores = torch.tensor([value or 0.0 for value in total], device=mask.device)
        rewards = pg.shaped_rewards(scores, logp - reference, mask, self.ppo.kl_coefficient)
        advantages, returns = pg.gae(
            rewards, seen.values, mask, gamma=self.ppo.gamma, lambda_=self.ppo.lambda_
        )
        if self.ppo.whiten:
            advantages = pg.whitened(advantages, mask)
        figures = {
            **seen.earned.figures(),
            "reward_std": scores[earned].std(correction=0).item() if earned.any() else None,
            "kl": pg.masked_mean(pg.divergence_k3(logp, reference), mask).item(),
            "completions/mean_length": sum(len(a.tokens) for a in answers) / len(answers),
            "safety/refused": 1 - safe.mean().item(),
        }
        return Rollout(answers, mask, logp, seen.values * mask, advantages, returns, figures)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The policy as this stage began with it: the base with its adapter switched off, or,
        where that is not what it began with, all that is trained of it lent back.
        """
        if self._began is None:
            policy: Any = self.model
            with policy.disable_adapter():
                yield
            return
        with lent(self.model, self._began):
            yield

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _evidence(self, answers: tuple[Answer, ...], earned: RewardTable) -> Evidence:
        longest = max(1, *(len(answer.tokens) for answer in answers))
        size = self.args.per_device_train_batch_size
        parts = []
        for start in range(0, len(answers), size):
            batch = self._collated(answers[start : start + size])
            logits, values = self._forward(self.model, batch)
            logp = _of_targets(logits, batch["targets"])
            with self.reference():
                base, _ = self._forward(self.model, batch)
            reference = _of_targets(base, batch["targets"])
            tensors = (logp, values, reference, batch["mask"])
            parts.append([widened(t * batch["mask"], longest) for t in tensors])
        logp, values, reference, mask = (torch.cat(side) for side in zip(*parts, strict=True))
        return Evidence(answers, logp, values, reference, mask, earned)

    # -- records -----------------------------------------------------------------------------

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """The Trainer's figures with PPO's and every reward's beside them."""
        if "loss" in logs and self._current is not None:
            logs = {**logs, **self._means(), **self._current[1].figures}
        self._sums = defaultdict(float)
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Means over the tokens that all processes have learned from since the last log."""
        here = torch.tensor(
            [self._sums[name] for name in (*FIGURES, "tokens")], device=self.args.device
        )
        *sums, tokens = self.accelerator.reduce(here, reduction="sum").tolist()
        return {name: total / max(1.0, tokens) for name, total in zip(FIGURES, sums, strict=True)}


def _of_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _trained_before(model: Any) -> dict[str, torch.Tensor] | None:
    """What the stage begins with; None for a new adapter alone, which changes nothing yet: its B
    are 0. Biases and modules that are trained whole don't go when the adapter is switched off.
    """
    weights = first_state(model, but=VALUE_HEAD)
    plain = all("lora_" in name for name in weights)
    fresh = all(not tensor.any() for name, tensor in weights.items() if "lora_B" in name)
    return None if plain and fresh else weights


def _without_dropout(model: Any) -> None:
    """The ratio of probabilities compares two policies, never two draws of dropout."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
