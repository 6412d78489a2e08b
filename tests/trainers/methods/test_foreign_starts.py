"""Adapters of every make as a start: loaded as they were trained, or refused in one message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from harness.store.store import Store
from tests.tiny import save_tiny_llama
from tests.trainers.method_builders import as_its_reference, job_of, write_method_world
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.loop.stages import first_start, run_stages
from trainers.methods.base import method_of

LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
RECIPE: dict[str, Any] = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its projections have biases, and its two ends have weights of their own."""
    place = tmp_path_factory.mktemp("base") / "m"
    return save_tiny_llama(place, attention_bias=True, tie_word_embeddings=False)


def lora(**more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **{**LORA, **more})


def saved(config: Any, base: Path, folder: Path, *, safe: bool = True) -> Path:
    """As its user's script would: everything that is trained is somewhere else than it began."""
    import torch
    from peft import get_peft_model

    model, _ = load(resolve(str(base), Workspace(folder.parent / "w")))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        made = get_peft_model(model, config)
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    made.save_pretrained(folder, safe_serialization=safe)
    return folder


def started(folder: Path, base: Path, start: Path, **adapter: Any) -> Any:
    """The model that a training of the recipe begins with."""
    said = {**RECIPE, **adapter} if adapter.get("kind") != "prefix" else adapter
    path = write_method_world(folder, base, "sft", adapter=said, start=str(start))
    recipe = load_recipe(path)
    workspace = Workspace.at(folder / "w").ensure()
    files = resolve(str(base), workspace)
    first = first_start(recipe, files, workspace)
    return method_of("sft").open(recipe, files, first)[0]


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.arange(3, 60)[None]).logits


def as_peft_loads_it(base: Path, start: Path, folder: Path) -> Any:
    from peft import PeftModel

    model, _ = load(resolve(str(base), Workspace(folder / "w")))
    plain = logits(model)
    theirs = logits(PeftModel.from_pretrained(model, str(start)))
    assert (theirs - plain).abs().max() > 1e-3
    return theirs


TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "a pattern of names": ({"target_modules": r".*\.(q|v)_proj"}, {}),
    "names in full": ({"target_modules": ["model.layers.0.self_attn.q_proj"]}, {}),
    "some layers": ({"layers_to_transform": [1]}, {}),
    "fewer targets": ({"target_modules": ["v_proj"]}, {}),
    "without one": ({"exclude_modules": ["model.layers.0.self_attn.q_proj"]}, {}),
    "rslora": ({"use_rslora": True}, {"kind": "rslora"}),
    "dora": ({"use_dora": True}, {"kind": "dora"}),
    "all biases": ({"bias": "all"}, {"bias": "all"}),
    "its own biases": ({"bias": "lora_only"}, {"bias": "lora_only"}),
    "a saved norm": ({"modules_to_save": ["norm"]}, {"modules_to_save": ["norm"]}),
    "a saved head": ({"modules_to_save": ["lm_head"]}, {"modules_to_save": ["lm_head"]}),
    "both ends": (
        {"modules_to_save": ["lm_head", "embed_tokens"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "on the embeddings": (
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"targets": ["q_proj", "embed_tokens"]},
    ),
    "ranks by pattern": ({"rank_pattern": {"q_proj": 2}}, {"rank_pattern": {"q_proj": 2}}),
    "alphas by pattern": (
        {"alpha_pattern": {r"layers\.1\..*v_proj": 64}},
        {"alpha_pattern": {r"layers\.1\..*v_proj": 64}},
    ),
    "pissa": ({"init_lora_weights": "pissa"}, {"init": "pissa"}),
    "olora": ({"init_lora_weights": "olora"}, {"init": "olora"}),
    "begun by chance": ({"init_lora_weights": "gaussian"}, {}),
    "begun orthogonal": ({"init_lora_weights": "orthogonal"}, {}),
}


@pytest.mark.parametrize("make", TAKEN)
def test_it_is_loaded_as_peft_loads_it(tmp_path: Path, base: Path, make: str) -> None:
    import torch

    config, said = TAKEN[make]
    start = saved(lora(**config), base, tmp_path / "start")
    theirs = as_peft_loads_it(base, start, tmp_path)
    assert torch.equal(logits(started(tmp_path, base, start, **said)), theirs)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("kto", "grpo", "rloo")]


@pytest.mark.parametrize("trainer", ["dpo", "ppo", *LONG])
@pytest.mark.parametrize(
    "make",
    [
        *("some layers", "dora", "all biases", "a saved norm", "both ends", "on the embeddings"),
        "pissa",
    ],
)
def test_what_a_policy_is_held_to_is_the_start(
    tmp_path: Path, base: Path, make: str, trainer: str
) -> None:
    import torch

    config, said = TAKEN[make]
    start = saved(lora(**config), base, tmp_path / "start")
    theirs = as_peft_loads_it(base, start, tmp_path)
    path = write_method_world(tmp_path, base, trainer, adapter={**RECIPE, **said}, start=str(start))
    job, method = job_of(path, tmp_path / "w")
    made = method.make(job)
    with torch.no_grad():
        for parameter in job.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    assert not torch.allclose(logits(job.model), theirs, atol=1e-3)
    with as_its_reference(made, job.model):
        assert torch.allclose(logits(job.model), theirs, atol=1e-5)


def test_weights_that_were_pickled_are_read(tmp_path: Path, base: Path) -> None:
    import torch

    start = saved(lora(), base, tmp_path / "start")
    weights = load_weights(start)
    (start / "adapter_model.safetensors").unlink()
    torch.save(weights, start / "adapter_model.bin")
    theirs = as_peft_loads_it(base, start, tmp_path)
    assert torch.equal(logits(started(tmp_path, base, start)), theirs)


def test_a_prefix_goes_on(tmp_path: Path, base: Path) -> None:
    import torch
    from peft import PrefixTuningConfig

    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    start = saved(config, base, tmp_path / "start")
    theirs = as_peft_loads_it(base, start, tmp_path)
    model = started(tmp_path, base, start, kind="prefix", virtual_tokens=4)
    assert torch.equal(logits(model), theirs)
    with pytest.raises(UserError, match="num_virtual_tokens 4 and not 6") as refused:
        started(tmp_path, base, start, kind="prefix", virtual_tokens=6)
    assert "virtual_tokens: 4" in str(refused.value.hint)


def _ia3() -> Any:
    from peft import IA3Config

    return IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    )


def _parameters() -> Any:
    return lora(target_parameters=["q_proj.weight"], target_modules=["v_proj"])


def _prompt() -> Any:
    from peft import PromptTuningConfig

    return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def _lokr() -> Any:
    from peft import LoKrConfig

    return LoKrConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2)


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "ranks by pattern": (lambda: lora(rank_pattern={"q_proj": 2}), "rank_pattern"),
    "alphas by pattern": (lambda: lora(alpha_pattern={"v_proj": 64}), "alpha_pattern"),
    "pissa": (lambda: lora(init_lora_weights="pissa"), "init_lora_weights 'pissa', which changes"),
    "olora": (lambda: lora(init_lora_weights="olora"), "init_lora_weights 'olora', which changes"),
    "biases of the adapter": (lambda: lora(lora_bias=True), "lora_bias true"),
    "single tokens": (lambda: lora(trainable_token_indices=[3, 4]), "trainable_token_indices"),
    "layers said twice": (lambda: lora(layer_replication=[(0, 2), (0, 2)]), "layer_replication"),
    "experts": (
        lambda: lora(target_parameters=["q_proj.weight"], target_modules=["v_proj"]),
        "target_parameters",
    ),
    "ia3": (_ia3, 'peft_type "IA3"'),
    "a prompt": (_prompt, 'peft_type "PROMPT_TUNING"'),
    "lokr": (_lokr, 'peft_type "LOKR"'),
}


@pytest.mark.parametrize("make", OTHERS)
def test_what_the_recipe_cannot_say_is_refused(tmp_path: Path, base: Path, make: str) -> None:
    config, says = OTHERS[make]
    start = saved(config(), base, tmp_path / "start")
    with pytest.raises(UserError, match="another one than the recipe's") as refused:
        started(tmp_path, base, start)
    assert says in refused.value.what
    way = "leave out `start`" if make == "a prompt" else "merge it into its base"
    assert way in str(refused.value.hint)


def load_weights(start: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(start / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("config", "said", "lost"),
    [
        ({}, {}, "layers.1.self_attn.v_proj.lora_B"),
        ({}, {}, "layers.0.self_attn.q_proj"),
        ({"use_dora": True}, {"kind": "dora"}, "lora_magnitude_vector"),
        ({"bias": "all"}, {"bias": "all"}, "layers.0.self_attn.k_proj.bias"),
        ({"modules_to_save": ["norm"]}, {"modules_to_save": ["norm"]}, "norm"),
    ],
)
def test_one_that_has_lost_weights_is_refused(
    tmp_path: Path, base: Path, config: dict[str, Any], said: dict[str, Any], lost: str
) -> None:
    from safetensors.torch import save_file

    start = saved(lora(**config), base, tmp_path / "start")
    kept = {name: w for name, w in load_weights(start).items() if lost not in name}
    assert len(kept) < len(load_weights(start))
    save_file(kept, start / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ of its own weights"):
        started(tmp_path, base, start, **said)
    # Nor is it scored as if it were whole.
    shutil.copytree(base, tmp_path / "whole")
    for path in base.glob("tokenizer*"):
        shutil.copyfile(path, start / path.name)
    with pytest.raises(UserError, match=r"lacks|can't be loaded"):
        load(resolve(str(start), Workspace(tmp_path / "w"), base=str(base)))


def test_a_base_that_was_moved_is_the_recipe_s(tmp_path: Path, base: Path) -> None:
    import torch

    shutil.copytree(base, tmp_path / "old")
    start = saved(lora(), tmp_path / "old", tmp_path / "start")
    (tmp_path / "old").rename(tmp_path / "new")
    theirs = as_peft_loads_it(base, start, tmp_path)
    assert torch.equal(logits(started(tmp_path, tmp_path / "new", start)), theirs)


@pytest.mark.parametrize("there", [True, False])
def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Path, there: bool) -> None:
    other = save_tiny_llama(tmp_path / "other", hidden_size=96, tie_word_embeddings=False)
    start = saved(lora(), other, tmp_path / "start")
    if not there:
        shutil.rmtree(other)
    with pytest.raises(UserError, match=r"another base model|doesn't fit the recipe's adapter"):
        started(tmp_path, base, start)


def test_an_adapter_of_a_deeper_base_is_neither_scored_nor_gone_on_from(
    tmp_path: Path, base: Path
) -> None:
    other = save_tiny_llama(tmp_path / "other", layers=3, attention_bias=True)
    start = saved(lora(), other, tmp_path / "start")
    note = start / "adapter_config.json"
    raw = json.loads(note.read_text("utf-8"))
    note.write_text(json.dumps({**raw, "base_model_name_or_path": str(base)}), encoding="utf-8")
    with pytest.raises(UserError, match="has no place for 4 of the adapter's weights"):
        load(resolve(str(start), Workspace(tmp_path / "w")))
    with pytest.raises(UserError, match=r"weights that the recipe's adapter doesn't"):
        started(tmp_path, base, start)


def test_a_start_whose_base_is_nowhere_trains_on_the_recipes(tmp_path: Path, base: Path) -> None:
    start = saved(lora(), base, tmp_path / "start")
    note = start / "adapter_config.json"
    raw = json.loads(note.read_text("utf-8"))
    note.write_text(json.dumps({**raw, "base_model_name_or_path": "/home/someone/m"}), "utf-8")
    stage = {"steps": 2, "checkpoint_every": 2}
    path = write_method_world(tmp_path, base, "sft", adapter=RECIPE, start=str(start), stage=stage)
    workspace = Workspace(tmp_path / "w").ensure()
    reporter: Any = Quiet()
    with Store(workspace) as store:
        [result] = run_stages(load_recipe(path), workspace, store, reporter)
    assert result.status == "finished"
