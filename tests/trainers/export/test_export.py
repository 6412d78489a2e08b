"""Exports: other libraries load them, they answer as the original does, and carry a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from harness.store.store import Store
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.export.export import export
from trainers.loop.gated_training import GatedTraining
from trainers.methods.ppo.settings import VALUE_HEAD, with_value_head

WORDS = "The lazy dog does not mind. 你好，世界。"


@pytest.fixture
def ratchet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    from harness.cli.app import main

    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object, home: Path) -> tuple[int, str]:
        monkeypatch.setenv("RATCHET_HOME", str(home))
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """What PPO leaves: LoRA weights that change the answers, and a value head."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=[VALUE_HEAD],
        task_type="CAUSAL_LM",
    )
    base = with_value_head(AutoModelForCausalLM.from_pretrained(tiny_llama))
    model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or VALUE_HEAD in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    ids = torch.tensor([tokenizer.encode(WORDS, add_special_tokens=False)])
    with torch.no_grad():
        return model.eval()(ids).logits


@pytest.fixture(scope="module")
def wanted(adapter: Path, tiny_llama: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    return logits(PeftModel.from_pretrained(base, adapter), AutoTokenizer.from_pretrained(adapter))


@pytest.mark.parametrize("form", ["merge", "gguf-ready"])
def test_a_merged_model_stands_alone(
    tmp_path: Path, adapter: Path, tiny_llama: Path, wanted: Any, form: Any
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(adapter), workspace)
    done = export(files, tmp_path / "out", form, card="# x\n", workspace=workspace)
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    found = logits(model, AutoTokenizer.from_pretrained(done.folder))
    plain = logits(*load(resolve(str(tiny_llama), workspace)))
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert (plain - wanted).abs().max() > 0.1
    assert not any(VALUE_HEAD in name for name, _ in model.named_parameters())
    assert not (done.folder / "adapter_config.json").exists()
    assert 0 <= done.difference < 1e-5


def test_an_adapter_is_exported_without_the_value_head(
    tmp_path: Path, adapter: Path, tiny_llama: Path, wanted: Any
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(adapter), workspace)
    done = export(files, tmp_path / "out", "adapter", card="# x\n", workspace=workspace)
    assert not any(VALUE_HEAD in k for k in load_file(done.folder / "adapter_model.safetensors"))
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model = PeftModel.from_pretrained(base, done.folder)
    found = logits(model, AutoTokenizer.from_pretrained(done.folder))
    assert (found - wanted).abs().max() < 1e-5
    with pytest.raises(UserError, match="there is no adapter"):
        export(
            resolve(str(tiny_llama), workspace),
            tmp_path / "no",
            "adapter",
            card="",
            workspace=workspace,
        )


def test_what_llama_cpp_looks_for_is_there(tmp_path: Path, adapter: Path) -> None:
    from safetensors.torch import load_file

    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(adapter), workspace)
    out = tmp_path / "out"
    export(files, out, "gguf-ready", card="", workspace=workspace, dtype="float16")
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rope_theta"] == 10000.0
    assert config["torch_dtype"] == "float16"
    assert (out / "tokenizer.json").exists()
    said = json.loads((out / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert {str(t.dtype) for t in load_file(out / "model.safetensors").values()} == {
        "torch.float16"
    }


def test_an_architecture_without_a_name_in_llama_cpp_is_refused(
    tmp_path: Path, tiny_llama: Path
) -> None:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    folder = tmp_path / "opt"
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    OPTForCausalLM(
        OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            word_embed_proj_dim=16,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    workspace = Workspace.at(tmp_path / "home")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"llama\.cpp knows no architecture like 'opt'"):
        export(resolve(str(folder), workspace), out, "gguf-ready", card="", workspace=workspace)
    assert not out.exists()
    assert not list(tmp_path.glob(".staging*"))


def test_a_wrong_export_is_never_written(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained

    def spoiled(model: Any, *args: Any, **named: Any) -> None:
        next(model.parameters()).data.mul_(1.01)
        save(model, *args, **named)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", spoiled)
    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(adapter), workspace)
    with pytest.raises(UserError, match="logits are off"):
        export(files, tmp_path / "out", "merge", card="", workspace=workspace)
    assert not (tmp_path / "out").exists()


def test_a_line_is_exported_with_its_scores_and_its_verdict(
    tmp_path: Path, tiny_llama: Path, ratchet: Any
) -> None:
    from huggingface_hub import ModelCard

    adapter = {"rank": 4, "alpha": 8}
    path = write_world(tmp_path, tiny_llama, spoiled=False, talk=False, adapter=adapter)
    home = tmp_path / "home"
    workspace = Workspace.at(home).ensure()
    with Store(workspace) as store:
        result = GatedTraining(load_recipe(path), workspace, store, Quiet()).run()
    assert result.promoted
    out = tmp_path / "out"
    code, said = ratchet("export-model", "tiny", "--to", out, home=home)
    assert (code, "logits are off" in said, "1 scores" in said) == (0, True, True)
    card = ModelCard.load(out / "README.md")
    [score] = card.data.eval_results
    assert score.metric_type == "perplexity"
    assert score.metric_value > 1
    assert score.dataset_name == "tiny / texts"
    traced = card.data.to_dict()["ratchet"]
    assert traced["checkpoint"] == result.digest
    assert traced["verdict"]["outcome"] == "pass"
    assert traced["training"]["training_id"] == result.training_id
    assert traced["run"] == result.best.id
    assert str(tmp_path) not in (out / "README.md").read_text(encoding="utf-8")
    assert "**pass**" in card.text
    code, said = ratchet("export-model", "tiny", "--to", out, home=home)
    assert (code, "something already" in said) == (3, True)
    short = result.digest[:8] if result.digest else ""
    code, _ = ratchet("export-model", short, "--to", tmp_path / "by-digest", home=home)
    assert code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no checkpoint 'nowhere'"),
        (["line:nowhere"], "there is no line 'nowhere'"),
        (["x", "--merge", "--adapter"], "one export has one form"),
        (["x", "--dtype", "int4"], "can't be written as 'int4'"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, ratchet: Any, words: list[str], message: str
) -> None:
    code, said = ratchet("export-model", *words, "--to", tmp_path / "o", home=tmp_path / "home")
    assert (code, message in said) == (3, True)
