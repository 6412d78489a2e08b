"""Notices that a training's rewards tell no answer from another, so that nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.core.errors import UserError
from trainers.config.recipe import Recipe, Stage


class FlatRewards:
    """Of one stage. A step is flat where no answer has a reward, or where all that are compared
    with each other (a group; for PPO a rollout) have the same one.

    Flat steps in a row are borne for `flat_reward_steps` of the stage, or for the whole stage where
    it is shorter; 0 bears any number.
    """

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self._recipe, self._stage = recipe, stage
        model = stage.model
        whole = model.steps - model.reuse + 1
        self._most = min(model.flat_reward_steps, max(1, whole))
        self._since: int | None = None
        self._said = False

    def hear(self, step: int, logs: Mapping[str, Any]) -> str | None:
        """What is to be said, once, of a step's measures. Raises UserError where too many steps in
        a row have been flat.
        """
        why = _flat(logs)
        if why is None:
            if "reward" in logs:
                self._since = None
            return None
        self._since = step if self._since is None else min(self._since, step)
        flat = step - self._since + 1
        if self._most and flat >= self._most:
            raise UserError(
                f"nothing is learned: {why}, for {flat} steps in a row",
                file=self._recipe.path,
                field=f"stages.{self._stage.number - 1}.rewards",
                hint="try the rewards on a few answers of your own; `flat_reward_steps` of the "
                "stage says how many such steps are borne (0: any number)",
            )
        if self._said:
            return None
        self._said = True
        then = f" After {self._most} such steps in a row it stops." if self._most else ""
        return f"At step {step} nothing is learned: {why}.{then}"


def _flat(logs: Mapping[str, Any]) -> str | None:
    if "reward" not in logs:
        return None
    reward, spread = logs["reward"], logs.get("reward_std")
    # TRL writes None where no answer has a reward, since not every log can hold a NaN.
    if reward is None or not math.isfinite(reward):
        return "no answer has a reward"
    if logs.get("frac_reward_zero_std") == 1 or spread == 0:
        return "all answers that are compared have the same reward"
    return None
