"""Health rules: bounds on what the trainer measures, such as the loss or the gradient norm."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainers.config.schema import HealthRule, Remedy

LOSS_GAP = "loss_gap"


@dataclass(frozen=True, slots=True)
class Symptom:
    """What is wrong, in a sentence, and the remedy that the rule names (None: the next one)."""

    why: str
    remedy: Remedy | None = None


@dataclass(slots=True)
class Health:
    """Means of what was measured since the last checkpoint, against a stage's rules.

    A loss or a gradient norm that is not a finite number needs no rule: nothing good follows it.
    """

    rules: Mapping[str, HealthRule]
    _heard: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def begin(self) -> None:
        """A segment begins: what was heard before belongs to another one."""
        self._heard.clear()

    def hear(self, logs: Mapping[str, Any]) -> Symptom | None:
        """Keep one step's measures; a symptom where one is not a number."""
        for name in ("loss", "grad_norm"):
            value = logs.get(name)
            if value is not None and not math.isfinite(float(value)):
                return Symptom(
                    f"the {_words(name)} is {float(value)}, which is not a finite number"
                )
        for name, value in logs.items():
            # TRL logs a reward's mean as `rewards/NAME/mean`; a rule calls it `rewards/NAME`.
            if isinstance(value, int | float) and math.isfinite(value):
                self._heard[name.removesuffix("/mean")].append(float(value))
        return None

    def means(self, validation_loss: float | None = None) -> dict[str, float]:
        """Each measure's mean over the segment, and the gap between validation and training."""
        means = {name: math.fsum(found) / len(found) for name, found in self._heard.items()}
        if validation_loss is not None and "loss" in means:
            means[LOSS_GAP] = validation_loss - means["loss"]
        return means

    def symptom(self, means: Mapping[str, float], first: Mapping[str, float]) -> Symptom | None:
        """The first rule that is broken. `first` are the means of the stage's first segment."""
        for name, rule in self.rules.items():
            value = means.get(name)
            if value is None:
                continue
            why = _broken(rule, value, first.get(name))
            if why:
                return Symptom(f"{_words(name)} over the segment is {value:.4g}, {why}", rule.then)
        return None


def _broken(rule: HealthRule, value: float, first: float | None) -> str | None:
    if rule.at_most is not None and value > rule.at_most:
        return f"more than {rule.at_most:g}"
    if rule.at_least is not None and value < rule.at_least:
        return f"less than {rule.at_least:g}"
    if rule.falls_by is not None and first is not None and value < first - rule.falls_by:
        return f"{first - value:.4g} below the first segment's (at most {rule.falls_by:g})"
    return None


def _words(name: str) -> str:
    return {
        "grad_norm": "gradient norm",
        LOSS_GAP: "the validation loss above the training loss",
        "kl": "the KL to the reference",
    }.get(name, name)
