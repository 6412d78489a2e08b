"""Makes a recipe of another trainer's configuration, and lists what it has no equivalent for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.core.errors import UserError
from harness.core.yaml_file import YamlDocument
from harness.data.sources import read_source
from trainers.config.data_schema import DataModel
from trainers.config.method_traits import traits_of
from trainers.config.schema import ALL_LINEAR, RecipeModel, StageModel
from trainers.config.trainer_options import NOT_FOR_ALL

FEWEST_HELD = 10
"""Rows that are held out, on the average: which they are is by the digest of each row's name."""

_SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant_with_warmup",
}
OF_THE_MACHINE = "what a machine needs is no part of a recipe"
JUDGED = "every checkpoint is judged by the gate's suite"
KEPT = "checkpoints lie in the workspace, and the gate says which are kept"
OWN_TEMPLATE = "the base's own chat template is used, in training as in scoring"


@dataclass
class Settings:
    """Another trainer's keys, and which of them have been read."""

    document: YamlDocument
    read: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)
    """Key -> why it has no equivalent, or what stands in its place."""

    def take(self, name: str, otherwise: Any = None) -> Any:
        self.read.add(name)
        value = self.document.data.get(name)
        return otherwise if value is None else value

    def first(self, *names: str, otherwise: Any = None) -> Any:
        """The value of the first of these names that is there."""
        found = [self.take(name) for name in names]
        return next((value for value in found if value is not None), otherwise)

    def number(self, name: str, otherwise: float) -> float:
        """Raises UserError where it is no number; YAML takes `1e-4` for a text."""
        value = self.take(name, otherwise)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self.document.error(f"{value!r} is no number", (name,)) from None

    def whole(self, name: str, otherwise: int) -> int:
        return int(self.number(name, otherwise))

    def flag(self, name: str) -> bool:
        value = self.take(name)
        return value is True or str(value).lower() in ("true", "yes", "1")

    def leave(self, name: str, why: str) -> None:
        """Note that a key that is there has no equivalent."""
        self.read.add(name)
        if self.document.data.get(name) is not None:
            self.left[name] = why

    def leave_all(self, reasons: Mapping[str, str]) -> None:
        """The same for keys, or for beginnings of keys that end with `*`."""
        for name, why in reasons.items():
            for key in self.document.data:
                if key == name or (name.endswith("*") and str(key).startswith(name[:-1])):
                    self.leave(str(key), why)

    def unread(self) -> None:
        for key in self.document.data:
            if key not in self.read:
                self.left[str(key)] = "this key is not known here"


@dataclass
class Draft:
    """A recipe in the making. Where `steps` is 0, `epochs` say how long it trains."""

    base: str
    trainer: str
    mix: list[dict[str, Any]] = field(default_factory=list)
    adapter: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    steps: int = 0
    save_every: int = 0
    warmup_ratio: float = 0.0
    held_rows: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Converted:
    """The recipe's text, and what has no equivalent in it: (key, reason)."""

    text: str
    left: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


Reader = Callable[[Settings, Path], Draft]


def converted(
    settings: Settings, draft: Draft, *, suite: Path, target: Path, name: str, line: str
) -> Converted:
    """The draft as the text of a recipe at `target`. Raises UserError for rows that can't be read,
    and where the recipe would not be valid.
    """
    settings.unread()
    rows = _weighed(draft, target.parent)
    _hold_out(draft, sum(rows), settings)
    _fitting_options(draft, settings)
    stage = _stage(draft, rows)
    recipe: dict[str, Any] = {"name": name, "line": line, "base": draft.base, **draft.top}
    if draft.adapter is not None:
        recipe["adapter"] = draft.adapter
    recipe["data"] = {**draft.data, "mix": draft.mix}
    recipe["stages"] = [stage]
    recipe["gate"] = {"suite": _relative(suite, target.parent)}
    recipe = _known(recipe, settings)
    body = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)
    head = [f"Made from {settings.document.path.name} by `ratchet recipes from`.", *draft.notes]
    left = tuple(sorted(settings.left.items()))
    if left:
        head += ["", "Left out:", *(f"  {key}: {why}" for key, why in left)]
    comment = "".join(f"# {text}".rstrip() + "\n" for text in head)
    return Converted(comment + body, left, tuple(draft.notes))


def _weighed(draft: Draft, folder: Path) -> list[int]:
    """The rows of each source, which weigh as much as they have unless shares were asked for."""
    counts = []
    for source in draft.mix:
        counts.append(len(read_source(source["source"], folder, split="train")))
        source.setdefault("weight", counts[-1])
    return counts


def _fitting_options(draft: Draft, settings: Settings) -> None:
    """Leave out the Trainer's settings that the trainer, or the adapter, has no use for."""
    for name in sorted(NOT_FOR_ALL & set(draft.options) - traits_of(draft.trainer).keys):
        settings.left[name] = f"the trainer {draft.trainer} has no such option"
        del draft.options[name]


def _hold_out(draft: Draft, rows: int, settings: Settings) -> None:
    """The share that is validated on; none of so few rows that it might hold none."""
    if draft.held_rows:
        draft.data["validation"] = round(min(0.5, draft.held_rows / max(1, rows)), 4)
    share = float(draft.data.get("validation", 0))
    if share and share * rows < FEWEST_HELD:
        del draft.data["validation"]
        settings.left["validation"] = f"{share:g} of {rows} rows is too few to hold out"


def _stage(draft: Draft, counts: list[int]) -> dict[str, Any]:
    stage = {"trainer": draft.trainer, **draft.stage}
    batch = stage["batch_size"] * stage.get("gradient_accumulation", 1)
    share = float(draft.data.get("validation", 0))
    rows = max(1, math.ceil(sum(counts) * (1 - share)))
    steps = draft.steps or max(1, math.ceil(rows * draft.epochs / batch))
    every = draft.save_every if 0 < draft.save_every <= steps else max(1, math.ceil(steps / 5))
    wanted, steps = steps, math.ceil(steps / every) * every
    if not draft.steps:
        passes = f"{draft.epochs:g} epochs of {rows} rows in batches of {batch}"
        draft.notes.append(f"{passes}: {steps} steps.")
    if steps != wanted:
        draft.notes.append(f"{steps} steps and not {wanted}, so that the last is judged too.")
    stage |= {"steps": steps} if draft.steps else {"epochs": draft.epochs}
    stage["checkpoint_every"] = every
    if draft.warmup_ratio:
        stage["warmup_steps"] = math.ceil(draft.warmup_ratio * steps)
    if stage.get("warmup_steps", 0) >= steps:
        stage["warmup_steps"] = steps - 1
    if draft.options:
        stage["trainer_options"] = draft.options
    return stage


def _known(recipe: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Without the keys that this version's recipes don't have."""
    stage = recipe["stages"][0]
    for model, place in ((RecipeModel, recipe), (DataModel, recipe["data"]), (StageModel, stage)):
        for key in [key for key in place if key not in model.model_fields]:
            settings.left[key] = f"recipes have no such key here ({place.pop(key)!r})"
    return recipe


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())


# What the tools have in common.


def adapter_of(
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: Any,
    saved: Any = None,
    kind: str = "lora",
    init: str = "default",
) -> dict[str, Any]:
    """`targets` are a list of names, one text of them, or a word for all linear layers."""
    made: dict[str, Any] = {} if kind == "lora" else {"kind": kind}
    made |= {"rank": rank, "alpha": alpha}
    if dropout:
        made["dropout"] = dropout
    everything = targets in ("all", ALL_LINEAR, [ALL_LINEAR], True)
    made["targets"] = ALL_LINEAR if everything else _names(targets)
    if init != "default":
        made["init"] = init
    if saved:
        made["modules_to_save"] = _names(saved)
    return made


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [name.strip() for name in re.split(r"[,\s]+", value) if name.strip()]
    return [str(name) for name in value or ()]


def schedule_of(settings: Settings, name: str, otherwise: str) -> str:
    given = str(settings.take(name, otherwise))
    if given not in _SCHEDULES:
        settings.left[name] = f"recipes have no schedule {given!r}: cosine is written"
        return "cosine"
    return _SCHEDULES[given]


def optimizer_of(given: str) -> str | None:
    """A recipe's word for an optimizer; None for the usual one, or for one that it doesn't have."""
    return {
        "adamw_8bit": "adamw_8bit",
        "adamw_bnb_8bit": "adamw_8bit",
        "paged_adamw_8bit": "paged_adamw_8bit",
        "adamw_torch_fused": "adamw_torch_fused",
        "adafactor": "adafactor",
    }.get(given)


def local_or_hub(path: str, folder: Path, target: Path, *parts: str) -> str:
    """A source's name in a recipe at `target`: a file relative to it, or a dataset of the hub."""
    for begin in (folder, Path.cwd()):
        if (begin / path).exists() or any(mark in path for mark in "*?["):
            return _relative(begin / path, target.parent)
    if path.startswith((".", "/", "~")) or Path(path).suffix:
        raise UserError(
            f"the data is not there: {path}",
            hint=f"looked in {folder} and in {Path.cwd()}",
        )
    return ":".join(("hub", path, *parts))
