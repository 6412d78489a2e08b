"""For every trainer a recipe that a tiny random model can follow in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.trainers.recipe_builders import GOOD, rows

PAIRS = [
    {"id": f"p{i}", "ask": question, "good": good, "bad": bad, "ok": i % 2 == 0, "rank": i}
    for i, (question, good, bad) in enumerate(
        (f"{topic} {verb}?", f"The {topic} does not mind.", f"zqx {verb} vvk")
        for topic in ("fox", "dog", "table", "weather", "world", "park", "name", "capital")
        for verb in ("jumps", "books", "walks", "answers", "waits", "eats")
    )
]
TEMPLATES: dict[str, dict[str, Any]] = {
    "sft": {"prompt": {"user": "{{ ask }}"}, "completion": "{{ good }}"},
    "reward": {"prompt": {"user": "{{ ask }}"}, "chosen": "{{ good }}", "rejected": "{{ bad }}"},
    "dpo": {"prompt": {"user": "{{ ask }}"}, "chosen": "{{ good }}", "rejected": "{{ bad }}"},
    "kto": {
        "prompt": {"user": "{{ ask }}"},
        "completion": "{{ good if ok else bad }}",
        "label": "{{ ok }}",
    },
    "grpo": {"prompt": {"user": "{{ ask }}"}},
    "rloo": {"prompt": {"user": "{{ ask }}"}},
    "ppo": {"prompt": {"user": "{{ ask }}"}},
}
SAMPLING = {
    "max_new_tokens": 6,
    "rewards": [{"kind": "length", "shortest": 60, "longest": 90}],
}
STAGES: dict[str, dict[str, Any]] = {
    "grpo": {**SAMPLING, "generations": 2, "reuse": 2, "checkpoint_every": 2, "beta": 0.1},
    "rloo": {**SAMPLING, "generations": 2, "reuse": 2, "checkpoint_every": 2},
    "ppo": {**SAMPLING, "ppo": {"epochs": 2}, "checkpoint_every": 2},
}


def write_suites(folder: Path) -> None:
    """`suite.yaml` judges a language model by perplexity, `pairs.yaml` any model by pairs."""
    (folder / "heldout.jsonl").write_text(rows(GOOD, 2), encoding="utf-8")
    lines = [json.dumps(pair) for pair in PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts = {"data": "heldout.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    pairs = {
        "data": "pairs.jsonl",
        "prompt": {"user": "{{ ask }}"},
        "reference": ["{{ good }}", "{{ bad }}"],
        "metrics": ["pair_accuracy"],
    }
    for name, task in (("suite", texts), ("pairs", pairs)):
        suite = {"name": name, "tasks": {"t": task}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")


def stage_of(trainer: str, **keys: Any) -> dict[str, Any]:
    """A stage of six steps with three checkpoints."""
    return {
        "trainer": trainer,
        "steps": 6,
        "checkpoint_every": 2,
        "batch_size": 4,
        "learning_rate": 0.01,
        **STAGES.get(trainer, {}),
        **keys,
    }


def write_method_world(
    folder: Path,
    base: Path,
    trainer: str,
    *,
    adapter: dict[str, Any] | None = None,
    stage: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    **recipe: Any,
) -> Path:
    """Write suites, data and a recipe of one stage into `folder`; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_suites(folder)
    judge = "pairs.yaml" if trainer == "reward" else "suite.yaml"
    mix = [{"source": "pairs.jsonl", "weight": 1, **TEMPLATES[trainer], **(source or {})}]
    body: dict[str, Any] = {
        "name": "tiny",
        "line": "tiny",
        "base": str(base),
        "adapter": adapter or {"rank": 4, "alpha": 8, "dropout": 0.1},
        "data": {"seed": 3, "mix": mix},
        "stages": [stage_of(trainer, **(stage or {}))],
        "gate": {"suite": judge, "promote": False},
        **recipe,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def write_stages(folder: Path, base: Path, *stages: dict[str, Any], **recipe: Any) -> Path:
    """A recipe of these stages, each with the data that its trainer learns from."""
    path = write_method_world(folder, base, "sft", **recipe)
    raw = yaml.safe_load(path.read_text("utf-8"))
    del raw["data"]
    for stage in stages:
        source = {"source": "pairs.jsonl", "weight": 1, **TEMPLATES[stage["trainer"]]}
        stage.setdefault("data", {"seed": 3, "mix": [source]})
    raw["stages"] = list(stages)
    raw["gate"]["promote"] = True
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def job_of(recipe: Path, workspace: Path, **opened: Any) -> tuple[Any, Any]:
    """(job, method) of a recipe's first stage, from which a trainer can be made without a loop.

    `opened` goes to `Method.open`: dtype and device.
    """
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve
    from trainers.config.data_plan import make_plan
    from trainers.config.load import load_recipe
    from trainers.methods.base import Job, method_of

    loaded = load_recipe(recipe)
    place = Workspace.at(str(workspace)).ensure()
    stage = loaded.stages[0]
    method = method_of(stage.model.trainer)
    start = None if loaded.model.start is None else recipe.parent / loaded.model.start
    model, tokenizer = method.open(loaded, resolve(loaded.model.base, place), start, **opened)
    plan = make_plan(stage, spare=0)
    backend = method.backend(model, tokenizer)
    output = workspace / "out"
    return (
        Job(loaded, stage, model, tokenizer, backend, place, output, plan.indices, []),
        method,
    )


@contextmanager
def as_its_reference(made: Any, model: Any) -> Iterator[None]:
    """The trainer's model as it is asked for what the training is held to."""
    from trl.trainer.utils import use_adapter

    if hasattr(made, "reference"):
        with made.reference():
            yield
        return
    inside = made.accelerator.unwrap_model(made.model)
    with use_adapter(inside, "ref" if "ref" in model.peft_config else None):
        yield
