"""What the gate has to know of a Trainer that was given to it, and what it can't stand around."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles, resolve
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from trainers.config.data_schema import DataModel
from trainers.config.recipe import Recipe, Stage
from trainers.config.run_options import ALL_HERE
from trainers.config.schema import (
    LONGEST_NAME,
    NAME,
    InconclusiveModel,
    RecipeModel,
    Remedy,
    StageModel,
    TrainingGateModel,
)
from trainers.loop.stage_run import StageRun
from trainers.methods.base import Method
from trainers.methods.causal import CausalMethod
from trainers.methods.reward_model import RewardModeling

_ASKED = 20_000
"""So many rows, evenly spread, are read to tell one data set from another."""

_NOT_THE_TRAINING = re.compile(
    r"output_dir|overwrite|logging|log_|report_to|run_name|hub_|push_to|disable_tqdm|local_rank"
    r"|save_total_limit|load_best|metric_for_best|greater_is|ddp_timeout|dataloader_num|project"
    r"|trackio|resume_from|eval|per_device_eval|do_|skip_memory|include_"
)
"""Arguments by which no step of a training becomes another."""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the caller said: see `trainers.wrap.gated.gated`."""

    suite: Suite
    line: str | None = None
    on_fail: tuple[Remedy, ...] = ("lower_lr", "stop")
    looks: tuple[float, ...] = (1.0,)
    max_rollbacks: int = 3
    name: str | None = None


@dataclass(frozen=True, slots=True)
class GivenModel:
    """The live model and its tokenizer. `base` are the files of the model under an adapter; of a
    whole model those that it was loaded from, where there are any.
    """

    model: Any
    tokenizer: Any
    base: ModelFiles
    method: Method

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")


class GivenCausal(CausalMethod):
    """A causal language model, loaded again as it was trained: on its device, in its dtype."""

    def __init__(self, model: Any) -> None:
        self._like = model

    def load(self, files: ModelFiles, **_: Any) -> tuple[Any, Any]:
        dtype = str(self._like.dtype).removeprefix("torch.")
        return super().load(files, dtype=dtype, device=str(self._like.device))


class GivenReward(RewardModeling):
    """A reward model, likewise."""

    def __init__(self, model: Any) -> None:
        self._like = model

    def load(self, files: ModelFiles, **_: Any) -> tuple[Any, Any]:
        model, tokenizer = super().load(files)
        return model.to(device=self._like.device, dtype=self._like.dtype), tokenizer


def given_model(model: Any, processing_class: Any, workspace: Workspace) -> GivenModel:
    """Raises UserError for what can't be scored from its checkpoints."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        raise UserError(
            "the Trainer has no tokenizer, and its checkpoints can't be asked anything without",
            field="processing_class",
            hint="make the Trainer with processing_class=tokenizer",
        )
    adapters = getattr(model, "peft_config", None)
    whole = model.get_base_model() if adapters and hasattr(model, "get_base_model") else model
    kind = type(whole).__name__
    if kind.endswith("ForSequenceClassification"):
        if whole.config.num_labels != 1:
            raise UserError(
                f"the model is a classifier of {whole.config.num_labels} labels, and what is "
                "scored here writes answers or gives each one reward",
                hint="gate a causal language model, or a classifier with one label",
            )
        method = cast(Method, GivenReward(model))
    elif hasattr(whole, "generate") and getattr(whole.config, "is_encoder_decoder", False) is False:
        method = cast(Method, GivenCausal(model))
    else:
        raise UserError(
            f"the model is a {kind}, and what is scored here is a causal language model or a "
            "reward model",
            hint="score its checkpoints elsewhere, and gate the results: docs/import.md",
        )
    return GivenModel(model, tokenizer, _base_of(whole, adapters, workspace), method)


def _base_of(whole: Any, adapters: Mapping[str, Any] | None, workspace: Workspace) -> ModelFiles:
    named = str(getattr(whole.config, "_name_or_path", "") or "")
    if adapters:
        named = next(iter(adapters.values())).base_model_name_or_path or named
    try:
        return resolve(named, workspace) if named else ModelFiles("", Path(), None, "")
    except UserError as error:
        if adapters:
            raise UserError(
                f"the adapter's base {named!r} is not to be found by that name, so that nobody "
                f"could load its checkpoints: {error.what}",
                field="base_model_name_or_path",
                hint="load the base from a folder or the hub, or save it first and load it from "
                "there",
            ) from error
        return ModelFiles(named, Path(named), None, "")


def run_of(
    given: GivenModel,
    options: GateOptions,
    workspace: Workspace,
    *,
    arguments: Any,
    steps: int,
    checkpoint_every: int,
    trained_by: str,
    data: Any = None,
) -> StageRun:
    """The training as the loop takes it: a recipe's stage whose rows and model are the Trainer's.

    It is found again by what it is made of (`_identity`), so that the same script goes on with it.
    """
    _require_metrics(given.method, options.suite)
    accumulated = arguments.gradient_accumulation_steps
    gate = TrainingGateModel(
        suite=str(options.suite.path),
        on_fail=options.on_fail,
        on_inconclusive=InconclusiveModel(looks=options.looks),
        max_rollbacks=options.max_rollbacks,
        promote=options.line is not None,
    )
    # Built without the checks of a recipe's keys: a Trainer's steps may end within a segment, and
    # what it learns from is no file.
    stage = StageModel.model_construct(
        trainer="sft",
        steps=steps,
        checkpoint_every=checkpoint_every,
        batch_size=arguments.per_device_train_batch_size * arguments.world_size,
        gradient_accumulation=accumulated,
        learning_rate=arguments.learning_rate,
        flat_reward_steps=0,
        options={"trainer": trained_by},
    )
    name = options.name or name_of(arguments.output_dir)
    model = RecipeModel.model_construct(
        name=name,
        line=options.line or name,
        base=given.base.name,
        seed=arguments.seed,
        quantize=_bits(given.model),
        stages=(stage,),
        gate=gate,
    )
    its_data = DataModel.model_construct(seed=arguments.data_seed or arguments.seed, mix=())
    whole = Stage(1, "", stage, its_data, gate, {}, (), (), options.suite)
    recipe = Recipe(Path(sys.argv[0] or "-"), model, (whole,))
    identity = _identity(given, options, arguments, trained_by, steps, checkpoint_every, data)
    return StageRun(
        recipe,
        whole,
        given.base,
        None,
        ALL_HERE,
        workspace,
        f"{name}-{identity[:10]}",
        given=given.method,
        dtype=given.dtype,
    )


def options_of(
    suite: str | Path | Suite,
    line: str | None,
    on_fail: Sequence[str],
    looks: Sequence[float],
    max_rollbacks: int,
    name: str | None,
) -> GateOptions:
    """Raises UserError, with the name of the argument, for what can't be meant."""
    for field, value in (("line", line), ("name", name)):
        if value is not None and not (re.match(NAME, value) and len(value) <= LONGEST_NAME):
            raise UserError(
                f"{value!r} is no name",
                field=field,
                hint=f"letters, digits, '.', '_' and '-', {LONGEST_NAME} at most",
            )
    try:
        gate = TrainingGateModel.model_validate(
            {
                "suite": "-",
                "on_fail": (on_fail,) if isinstance(on_fail, str) else tuple(on_fail),
                "on_inconclusive": {"looks": tuple(looks)},
                "max_rollbacks": max_rollbacks,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0])
        raise UserError(
            f"{first['msg'].removeprefix('Value error, ')}, and this is {first['input']!r}",
            field={"on_inconclusive": "looks"}.get(place, place),
            hint="such as on_fail=('skip_data', 'lower_lr', 'stop'), looks=(1, 2, 4)",
        ) from None
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    looks = gate.on_inconclusive.looks
    return GateOptions(loaded, line, gate.on_fail, looks, gate.max_rollbacks, name)


def sampled(dataset: Any) -> Any:
    """What tells one data set from another: its length, and rows evenly spread over it."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        return type(dataset).__name__
    length = len(dataset)
    step = max(1, -(-length // _ASKED))
    return [length, digest_of([_plain(dataset[i]) for i in range(0, length, step)])]


def _require_metrics(method: Method, suite: Suite) -> None:
    if method.judged_by is None:
        return
    foreign = {metric.spec.name for _, metric in suite.metrics()} - method.judged_by
    if foreign:
        raise UserError(
            f"the suite asks for {min(foreign)}, which a reward model can't answer",
            file=suite.path,
            hint=f"give a suite of {', '.join(sorted(method.judged_by))}",
        )


def _identity(given: GivenModel, options: GateOptions, arguments: Any, *more: Any) -> str:
    model = given.model
    described = {
        name: value
        for name, value in arguments.to_dict().items()
        if not _NOT_THE_TRAINING.match(name)
    }
    adapters = getattr(model, "peft_config", None) or {}
    parts = [
        described,
        [type(model).__name__, given.base.name, given.base.digest, given.dtype],
        {name: adapter.to_dict() for name, adapter in adapters.items()},
        [options.suite.digest, repr(options.suite.policy)],
        [*options.on_fail, *options.looks, options.max_rollbacks],
        *more,
    ]
    return digest_of(_plain(parts))


def _plain(value: Any) -> Any:
    """As JSON has it; what JSON has no word for, by its own, without the place in memory."""
    return json.loads(json.dumps(value, sort_keys=True, default=_told))


def _told(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if hasattr(value, "tolist"):
        return value.tolist()
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _bits(model: Any) -> Any:
    """How the base is rounded, as runs name it; None where it isn't."""
    settings = getattr(model.config, "quantization_config", None)
    if settings is None:
        return None
    said: Any = settings if isinstance(settings, dict) else settings.to_dict()
    if said.get("load_in_4bit") or said.get("load_in_8bit"):
        return "4bit" if said.get("load_in_4bit") else "8bit"
    method = said.get("quant_method")
    return str(getattr(method, "value", method))


def name_of(folder: str | None) -> str:
    """A training's name, from where its Trainer saves."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(folder or "training").name).strip("-._")
    return name[:LONGEST_NAME] or "training"
