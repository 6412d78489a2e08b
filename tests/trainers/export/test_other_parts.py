"""What a model has beside its language model is in its export as the base has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from tests.tiny import tiny_tokenizer
from tests.tiny_families import VOCABULARY, tiny_family
from trainers.export.export import export

PROCESSOR = {"preprocessor_config.json": {"size": 32}, "processor_config.json": {"patch_size": 8}}
AHEAD = "mtp.layers.0.weight"
"""A head that guesses tokens ahead: no class of transformers has a place for it."""


def save_base(family: str, folder: Path) -> Path:
    """As the hub has such a model: in bf16, with what reads images, and a head to guess ahead."""
    import torch
    from safetensors.torch import load_file, save_file

    model = tiny_family(family, whole=True).to(torch.bfloat16)
    model.generation_config.update(do_sample=True, top_k=7)
    model.save_pretrained(folder)
    tiny_tokenizer(VOCABULARY).save_pretrained(folder)
    for name, content in PROCESSOR.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    own = folder / "generation_config.json"
    own.write_text(own.read_text("utf-8") + "\n\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    tensors = {**load_file(weights), AHEAD: torch.arange(6.0, dtype=torch.bfloat16)}
    save_file(tensors, weights, {"format": "pt"})
    return folder


def save_adapter(base: Path, folder: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load(resolve(str(base), Workspace.at(folder.parent / "home")))
    targets = r".*(language_model|^model\.layers).*\.(q|v)_proj"
    config = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM")
    made = get_peft_model(model, config)
    chance = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=chance)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tensors_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {n: t for path in folder.glob("model*.safetensors") for n, t in load_file(path).items()}


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.arange(3, 60)[None]).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["mistral3", "qwen3_5"])
def test_all_but_what_was_trained_is_the_base_s(tmp_path: Path, family: str, dtype: str) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    base = save_base(family, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(adapter), workspace)
    heard: list[str] = []
    out = export(
        files,
        tmp_path / "out",
        "merge",
        card="",
        workspace=workspace,
        dtype=dtype,
        say=heard.append,
    ).folder
    for name in (*PROCESSOR, "generation_config.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    before, after = tensors_of(base), tensors_of(out)
    assert before.keys() == after.keys()
    changed = [n for n in before if not torch.equal(before[n].float(), after[n].float())]
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    assert all("vis" not in name for name in changed)
    if dtype == "bfloat16":
        assert all(before[n].dtype == after[n].dtype for n in before)
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert config["model_type"] == family
    assert any("Kept as the base has them" in said and AHEAD in said for said in heard)
    if dtype == "float32":
        whole = AutoModelForImageTextToText.from_pretrained(out, dtype="float32")
        scored = logits(load(files)[0])
        assert (logits(whole) - scored).abs().max() < 1e-5 * scored.abs().max()


@pytest.mark.parametrize("family", ["mistral3", "qwen3_5"])
def test_fewer_bits_are_for_what_reads_text(tmp_path: Path, family: str) -> None:
    pytest.importorskip("torchao")
    from trainers.export.quantize import quantize

    base = save_base(family, tmp_path / "base")
    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(base), workspace)
    heard: list[str] = []
    settings: Any = {"card": "", "workspace": workspace, "say": heard.append}
    out = quantize(files, tmp_path / "out", "int8", **settings).folder
    model, _ = load(resolve(str(out), workspace))
    kinds = {n: type(p).__name__ for n, p in model.named_parameters() if n.endswith("weight")}
    assert any(kind != "Parameter" for name, kind in kinds.items() if "q_proj" in name)
    assert all(kind == "Parameter" for name, kind in kinds.items() if "vis" in name)
    kept = [(out / name).exists() for name in PROCESSOR]
    # Where the class holds the language model alone, that is written and said.
    alone = "Written is the language model alone: its class has no place for what reads images"
    assert (all(kept), alone in heard) == (family == "mistral3", family == "qwen3_5")


def test_a_prefix_is_not_merged(tmp_path: Path, tiny_llama: Path) -> None:
    from peft import PrefixTuningConfig, get_peft_model

    model, tokenizer = load(resolve(str(tiny_llama), Workspace.at(tmp_path / "home")))
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(model, config).save_pretrained(tmp_path / "prefix")
    tokenizer.save_pretrained(tmp_path / "prefix")
    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(tmp_path / "prefix"), workspace)
    with pytest.raises(UserError, match="can't be merged into weights"):
        export(files, tmp_path / "out", "merge", card="", workspace=workspace)
    assert not (tmp_path / "out").exists()
    export(files, tmp_path / "out", "adapter", card="", workspace=workspace)
