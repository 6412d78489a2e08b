"""An adapter goes where the recipe says, or the recipe is refused before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from tests.tiny_families import save_family, tiny_family
from tests.trainers.method_builders import write_method_world
from trainers.config.load import load_recipe
from trainers.methods.models import adapted

SEEN = [
    *("mistral3", "gemma3", "qwen3_vl", "llava", "qwen3_5"),
    *(pytest.param(name, marks=pytest.mark.long) for name in ("qwen2_5_vl", "gemma4")),
]


def put_on(
    folder: Path, family: str, model: Any = None, trainer: str = "sft", **adapter: Any
) -> Any:
    path = write_method_world(folder, folder, trainer, adapter={"rank": 2, "alpha": 4, **adapter})
    return adapted(model or tiny_family(family, num_hidden_layers=2), load_recipe(path))


def adapters_of(model: Any) -> set[str]:
    names = (
        re.split(r"\.lora_(?:embedding_)?A", name)[0]
        for name, _ in model.named_parameters()
        if re.search(r"\.lora_(embedding_)?A", name)
    )
    return {name.removeprefix("base_model.model.") for name in names}


@pytest.mark.parametrize("family", SEEN)
def test_the_usual_targets_are_those_of_the_language_model(tmp_path: Path, family: str) -> None:
    model = tiny_family(family)
    decoder = {id(part) for part in model.get_decoder().modules()}
    inside = {name for name, part in model.named_modules() if id(part) in decoder}
    found = adapters_of(put_on(tmp_path, family, model))
    assert found
    assert found <= inside
    assert {name.rpartition(".")[2] for name in found} == {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.mark.parametrize(
    ("family", "adapter", "says", "hint"),
    [
        # Parts that read no text.
        ("qwen3_vl", {"targets": ["qkv"]}, "in a part that reads no text", "language model"),
        ("llava", {"targets": ["fc1"]}, "in a part that reads no text", "language model"),
        ("mistral3", {"targets": ["linear_1"]}, "in a part that reads no text", "language model"),
        ("qwen3_vl", {"modules_to_save": ["merger"]}, "reads no text", "language model"),
        ("gemma3", {"modules_to_save": ["mlp"]}, "in parts that read no text as well", "in full"),
        # Weights of many experts in one.
        ("qwen3_moe", {"targets": ["gate_up_proj"], "kind": "dora"}, "of all experts", "dora"),
        ("gpt_oss", {"targets": ["down_proj"], "dropout": 0.1}, "of all experts", "dropout"),
        ("gpt_oss", {"targets": [".*down_proj"], "init": "pissa"}, "of all experts", "pissa"),
        ("qwen3_moe", {"targets": ["gate_proj"]}, "no module named", "weights of its experts"),
        ("qwen3_moe", {"targets": ["gate"]}, "is a Qwen3MoeTopKRouter", "q_proj"),
        ("deepseek_v3", {"targets": ["down_proj"]}, "a layer in .* all experts", "mlp.down_proj"),
        ("deepseek_v3", {"targets": ["gate_proj"]}, "doesn't fit .* fused", "take another"),
        (
            "deepseek_v3",
            {"targets": ["gate_proj", "up_proj"]},
            "elsewhere than",
            "leave out gate_p",
        ),
        ("llama4_text", {"targets": ["down_proj"]}, "all experts at once in", "layers alone"),
        # Read past the layer.
        ("jamba", {"targets": ["dt_proj"]}, "reads the weight of .*dt_proj itself", "leave it out"),
        ("mamba", {"targets": ["x_proj"]}, "reads the weight of", "leave it out"),
        ("mamba2", {"targets": ["out_proj"]}, "reads the weight of", "leave it out"),
        ("granitemoehybrid", {"targets": ["out_proj"]}, "reads the weight of", "leave it out"),
        ("qwen3_5_text", {"targets": ["conv1d"]}, "is a Conv1d", "its modules are named"),
        ("lfm2", {"targets": ["conv.conv"]}, "is a Conv1d", "its modules are named"),
        # One weight at both ends.
        ("gemma3_text", {"targets": ["lm_head"]}, "shares its weight", "modules_to_save"),
        ("gpt2", {"targets": ["wte"]}, "shares its weight", "modules_to_save"),
        ("mistral3", {"targets": ["embed_tokens"]}, "shares its weight", "modules_to_save"),
        ("gemma3_text", {"targets": [".*(q_proj|lm_head)"]}, "shares its weight", "modules_to"),
        # Trained whole as well.
        ("llama", {"modules_to_save": ["self_attn"]}, "every target .* trained whole", "outside"),
        ("llama", {"targets": [".*_proj"], "modules_to_save": ["layers"]}, "no module na", "all-l"),
        # Patterns.
        ("llama", {"targets": r".*\.(a|b)_proj"}, "no module named", "all-linear"),
        ("qwen3_vl", {"targets": r".*visual.*qkv"}, "reads no text", "language model"),
        ("llama", {"rank_pattern": {"gate_proj": 4}}, "no target .* named 'gate_proj'", "q_proj"),
        ("llama", {"alpha_pattern": {"proj": 4}}, "no target of the adapter", "q_proj"),
        # No such thing.
        ("phi3", {}, "no module named 'q_proj'", "qkv_proj"),
        ("gpt2", {}, "no module named 'q_proj'", "c_attn"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, family: str, adapter: dict[str, Any], says: str, hint: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        put_on(tmp_path, family, **adapter)
    assert Path(str(refused.value.file)) == tmp_path / "recipe.yaml"
    assert str(refused.value.field).startswith("adapter")
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize(
    ("family", "targets", "count"),
    [
        ("deepseek_v3", ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"], 10),
        ("jamba", ["in_proj", "out_proj", "q_proj"], 3),
        ("bloom", ["dense", "query_key_value"], 4),
        ("gpt2", ["c_attn"], 2),
        ("llama", ["layers.1.self_attn.q_proj"], 1),
        ("gemma3", ["language_model.layers.0.mlp.down_proj"], 1),
        ("llama", "all-linear", 14),
        ("gpt2", "all-linear", 8),
        ("gemma3", "all-linear", 14),
        ("phi3", "all-linear", 8),
        ("qwen3_moe", "all-linear", 8),
        ("mamba", "all-linear", 2),
        ("llama", r"model\.layers\.0\.self_attn\..*", 4),
        ("llama", [r".*\.1\.mlp\..*_proj", "o_proj"], 5),
        ("llama", ["q_proj", "lm_head", "embed_tokens"], 4),
    ],
)
def test_what_is_named_is_trained(
    tmp_path: Path, family: str, targets: list[str] | str, count: int
) -> None:
    assert len(adapters_of(put_on(tmp_path, family, targets=targets))) == count


def test_experts_are_adapted_by_the_name_of_their_weights(tmp_path: Path) -> None:
    model = put_on(tmp_path, "gpt_oss", targets=["q_proj", "gate_up_proj", "down_proj"])
    assert set(model.base_model.targeted_parameter_names) == {
        f"model.layers.{layer}.mlp.experts.{name}"
        for layer in (0, 1)
        for name in ("gate_up_proj", "down_proj")
    }
    assert {n.rpartition(".")[2] for n in model.base_model.targeted_module_names} == {"q_proj"}


def test_ranks_and_alphas_of_their_own(tmp_path: Path) -> None:
    model = put_on(
        tmp_path,
        "llama",
        rank_pattern={"q_proj": 4, r"layers\.0\..*k_proj": 1},
        alpha_pattern={"v_proj": 1},
    )
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "self_attn" in name:
            layer, leaf = re.search(r"layers\.(\d)\.self_attn\.(\w)", name).groups()  # type: ignore[union-attr]
            found[layer + leaf] = (module.r["default"], module.lora_alpha["default"])
    assert found == {
        **{"0q": (4, 4), "1q": (4, 4), "0k": (1, 4), "1k": (2, 4)},
        **{"0v": (2, 1), "1v": (2, 1), "0o": (2, 4), "1o": (2, 4)},
    }


def test_ppo_trains_an_adapter_on_the_head(tmp_path: Path) -> None:
    assert adapters_of(put_on(tmp_path, "llama", trainer="ppo", targets=["lm_head"])) == {"lm_head"}


def test_an_image_text_base_is_quantized_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another library rounds it, which needs no GPU."""
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    from trainers.methods import models

    base = save_family("mistral3", tmp_path / "base")
    make: Any = TorchAoConfig
    monkeypatch.setattr(models, "require_gpu_for", lambda recipe: None)
    monkeypatch.setattr(models, "bits_of", lambda recipe: make(Int8WeightOnlyConfig()))
    path = write_method_world(tmp_path, base, "sft", quantize="8bit", adapter={"rank": 2})
    files = resolve(str(base), Workspace.at(tmp_path / "home"))
    model, _ = models.open_causal(load_recipe(path), files, None)
    assert type(model.get_base_model()) is type(load(files)[0])
    assert all("language_model" in name for name in adapters_of(model))
