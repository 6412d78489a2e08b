"""An adapter to start from is the one that the recipe describes, or is refused in one message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from tests.trainers.method_builders import write_method_world
from trainers.config.load import load_recipe
from trainers.methods.base import method_of

OURS: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
RECIPE: dict[str, Any] = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}


def adapter(folder: Path, base: Path, **config: Any) -> Path:
    """An adapter of a user's own that changes what the base says, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load(resolve(str(base), Workspace(folder.parent / "w")))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **{**OURS, **config}))
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "lora_B" in name or ("modules_to_save" in name and parameter.requires_grad):
                    parameter.normal_(std=0.05)
                elif name.endswith("bias") and parameter.requires_grad:
                    parameter.fill_(0.3)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(folder: Path, base: Path, start: Path, **said: Any) -> Path:
    return write_method_world(folder, base, "sft", adapter={**RECIPE, **said}, start=str(start))


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.arange(3, 60)[None]).logits


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, {}),
        ({"lora_alpha": 64}, {"alpha": 64}),
        ({"r": 2}, {"rank": 2}),
        ({"use_rslora": True}, {"kind": "rslora"}),
        ({"use_dora": True}, {"kind": "dora"}),
        ({"lora_dropout": 0.5}, {}),
        ({"init_lora_weights": "gaussian"}, {}),
        ({"target_modules": ["q_proj"]}, {}),
        ({"layers_to_transform": [1]}, {}),
        ({"modules_to_save": ["embed_tokens"]}, {"modules_to_save": ["embed_tokens"]}),
        ({}, {"modules_to_save": ["norm"]}),
    ],
)
def test_a_start_is_loaded_as_it_was_trained(
    tmp_path: Path, tiny_llama: Path, config: dict[str, Any], said: dict[str, Any]
) -> None:
    import torch
    from peft import PeftModel

    start = adapter(tmp_path / "start", tiny_llama, **config)
    loaded = load_recipe(recipe(tmp_path, tiny_llama, start, **said))
    base = resolve(str(tiny_llama), Workspace(tmp_path / "w"))
    opened, _ = method_of("sft").open(loaded, base, start)
    theirs = PeftModel.from_pretrained(load(base)[0], str(start))
    assert torch.equal(logits(opened), logits(theirs))


@pytest.mark.parametrize(
    ("config", "said", "says", "hint"),
    [
        ({"lora_alpha": 64}, {}, "lora_alpha 64 and not 8", "rank: 4, alpha: 64"),
        ({}, {"alpha": 64}, "lora_alpha 8 and not 64", "alpha: 8"),
        ({"r": 2}, {}, "r 2 and not 4", "rank: 2"),
        ({"use_rslora": True}, {}, "use_rslora true", "kind: rslora"),
        ({}, {"kind": "rslora"}, "use_rslora false", "kind: lora"),
        ({"use_dora": True}, {}, "use_dora true", "kind: dora"),
        ({}, {"kind": "dora"}, "use_dora false", "kind: lora"),
        ({"bias": "all"}, {}, 'bias "all" and not "none"', "bias: all"),
        ({"rank_pattern": {"q_proj": 2}}, {}, "rank_pattern", "merge it"),
        ({"alpha_pattern": {"v_proj": 32}}, {}, "alpha_pattern", "merge it"),
        ({"modules_to_save": ["norm"]}, {}, "modules_to_save", r"modules_to_save: \[norm\]"),
        ({"lora_bias": True}, {}, "lora_bias", "merge it"),
        ({"init_lora_weights": "pissa"}, {}, "init_lora_weights 'pissa'", "merge it"),
        ({"trainable_token_indices": [3]}, {}, "trainable_token_indices", "merge it"),
    ],
)
def test_another_adapter_is_refused_with_the_way_to_write_it(
    tmp_path: Path,
    tiny_llama: Path,
    config: dict[str, Any],
    said: dict[str, Any],
    says: str,
    hint: str,
) -> None:
    start = adapter(tmp_path / "start", tiny_llama, **config)
    with pytest.raises(UserError, match=says) as refused:
        load_recipe(recipe(tmp_path, tiny_llama, start, **said))
    assert refused.value.line is not None
    assert refused.value.hint is not None
    assert re.search(hint, refused.value.hint)


def test_other_kinds_of_adapters_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    start = adapter(tmp_path / "start", tiny_llama)
    note = start / "adapter_config.json"
    raw = json.loads(note.read_text("utf-8"))
    for change in ({"peft_type": "IA3"}, {"peft_type": "LORA", "a_key_of_tomorrow": 2}):
        note.write_text(json.dumps({**raw, **change}), encoding="utf-8")
        with pytest.raises(UserError, match="another one than the recipe's"):
            load_recipe(recipe(tmp_path, tiny_llama, start))
    note.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not an adapter's configuration"):
        load_recipe(recipe(tmp_path, tiny_llama, start))


def test_weights_that_have_no_place_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    start = adapter(tmp_path / "start", tiny_llama, target_modules=["q_proj", "o_proj"])
    loaded = load_recipe(recipe(tmp_path, tiny_llama, start))
    base = resolve(str(tiny_llama), Workspace(tmp_path / "w"))
    with pytest.raises(UserError, match=r"o_proj\.lora_A.* and 3 more"):
        method_of("sft").open(loaded, base, start)


def test_what_the_hint_says_is_what_loads(tmp_path: Path, tiny_llama: Path) -> None:
    start = adapter(tmp_path / "start", tiny_llama, use_rslora=True, r=8, lora_alpha=2)
    with pytest.raises(UserError) as refused:
        load_recipe(recipe(tmp_path, tiny_llama, start))
    words = str(refused.value.hint).split("`")[1]
    said = yaml.safe_load(words)["adapter"]
    assert load_recipe(recipe(tmp_path, tiny_llama, start, **said)).model.adapter_kind == "rslora"
