"""The safety layer around TRL's sampling: answers that it turns down are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.backends import answers, tokenization
from trainers.rewards.safety import Safety

Tokens = list[int]


def with_safety_filter(trainer_class: type[Any], safety: Safety | None) -> type[Any]:
    """`trainer_class` (TRL's GRPOTrainer or RLOOTrainer) with rejection sampling.

    A completion that `safety` turns down is drawn again, up to `tries` times in all. What was never
    accepted has no reward, so that it counts in no group's baseline and has no advantage, and no
    token of it is held to the reference. Logged: `safety/redrawn` and `safety/refused`, shares of
    the completions of all processes.
    """
    if safety is None:
        return trainer_class
    import torch

    tries, accepts = safety.tries, safety.accepts

    class Guarded(trainer_class):  # type: ignore[misc]
        _safe: list[bool]

        def _generate_single_turn(self, prompt_ids: list[Tokens], *rest: Any) -> Any:
            drawn = super()._generate_single_turn(prompt_ids, *rest)
            # GRPO gives log-probabilities beside the tokens, which only vLLM fills in.
            tokens: list[Tokens] = list(drawn[0] if isinstance(drawn, tuple) else drawn)
            self._safe = self._accepted(tokens)
            self._note("safety/redrawn")
            for _ in range(tries - 1):
                # Every process draws as long as one of them must: drawing may be a collective act.
                if not self._unsafe().any():
                    break
                waiting = [i for i, safe in enumerate(self._safe) if not safe]
                asked = waiting or [0]
                again = super()._generate_single_turn([prompt_ids[i] for i in asked], *rest)
                found: list[Tokens] = again[0] if isinstance(again, tuple) else again
                for i, one, safe in zip(asked, found, self._accepted(found), strict=True):
                    if i in waiting:
                        tokens[i], self._safe[i] = one, safe
            self._note("safety/refused")
            return (tokens, None) if isinstance(drawn, tuple) else tokens

        def _calculate_rewards(self, *arguments: Any) -> Any:
            earned = super()._calculate_rewards(*arguments)
            earned[self._unsafe()] = torch.nan
            return earned

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            made = super()._generate_and_score_completions(inputs)
            # RLOO's divergence is part of the reward, which such an answer has not.
            if "num_items_in_batch" in made:
                mask = made["completion_mask"]
                safe = torch.tensor(self._safe, device=mask.device).unsqueeze(1)
                made["tool_mask"] = safe.expand_as(mask).to(mask.dtype).contiguous()
                learned = self.accelerator.gather((mask * made["tool_mask"]).sum())
                made["num_items_in_batch"] = learned.sum().clamp(min=1)
            return made

        def _accepted(self, tokens: Sequence[Tokens]) -> list[bool]:
            tokenizer = self.processing_class
            ends = tokenization.end_tokens(tokenizer)
            frame = tokenization.frame_of(tokenizer, ends)
            said = [tokenization.text_of(tokenizer, ids, frame) for ids in tokens]
            return list(accepts([answers.words_of(tokenizer, text, ends) for text in said]))

        def _unsafe(self) -> Any:
            """Of the completions of all processes, which ones are turned down."""
            here = [int(not safe) for safe in self._safe]
            return self.accelerator.gather(torch.tensor(here, device=self.accelerator.device)) > 0

        def _note(self, name: str) -> None:
            mode = "train" if self.model.training else "eval"
            self._metrics[mode][name].append(self._unsafe().float().mean().item())

    Guarded.__name__ = trainer_class.__name__
    return Guarded
