"""Families of models train with an adapter, go back bit for bit, and are exported as scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from harness.store.store import Store
from tests.tiny_families import save_family
from tests.trainers.method_builders import write_method_world
from tests.trainers.training_driver import Quiet, everything, never_fail
from trainers.checkpoints.state import TrainingState, save_state
from trainers.config.load import load_recipe
from trainers.export.export import export
from trainers.loop.gated_training import GatedTraining

USUAL = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What a recipe's adapter goes on where nothing is said."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "llama": USUAL,
    "qwen3": (*USUAL, "gate_proj", "up_proj", "down_proj"),
    "gemma3_text": USUAL,
    "gemma4_text": USUAL,
    "gpt_oss": USUAL,
    "phi3": ("qkv_proj", "gate_up_proj", "down_proj"),
    "mistral": USUAL,
    "qwen3_5_text": (*USUAL, "in_proj_qkv", "in_proj_z", "out_proj"),
    "falcon_h1": (*USUAL, "in_proj"),
    "jamba": (*USUAL, "in_proj", "out_proj"),
    "lfm2": ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"),
    "mamba2": ("in_proj",),
    "granitemoehybrid": (*USUAL, "in_proj"),
    "olmo3": USUAL,
    "deepseek_v3": ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"),
    "qwen3_moe": USUAL,
    "mistral3": USUAL,
    "qwen3_vl": USUAL,
    "qwen2_5_vl": USUAL,
    "llava": USUAL,
    "gemma3": USUAL,
    "qwen3_5": USUAL,
    "llama4_text": USUAL,
    "gpt2": ("c_attn", "c_proj"),
    "bloom": ("query_key_value",),
    "minimax": USUAL,
}


def trained(path: Path, *, fail: bool) -> GatedTraining:
    """With `fail`, the second segment is judged to be worse and left out; else it never was."""
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        training = GatedTraining(load_recipe(path), workspace, store, Quiet())  # type: ignore[arg-type]
        never_fail(training, {(2, 1): VerdictOutcome.FAIL} if fail else {})
        if not fail:
            state = TrainingState(training.training_id, training.plan.digest, dropped=(2,))
            save_state(training.record.path, state)
        result = training.run()
    assert (result.status, result.rollbacks) == ("finished", int(fail))
    return training


def goes_back_and_is_exported(
    tmp_path: Path, base: Path, trainer: str, adapter: dict[str, Any]
) -> None:
    """A rollback is exact, every weight that is trained moves, and the export answers alike."""
    world: dict[str, Any] = {
        "adapter": {"rank": 2, "alpha": 8, **adapter},
        "stage": {"steps": 2, "checkpoint_every": 1, "batch_size": 2, "learning_rate": 0.01},
    }
    if trainer == "grpo":
        world["stage"]["reuse"] = 1
    back = trained(write_method_world(tmp_path / "a", base, trainer, **world), fail=True)
    clean = trained(write_method_world(tmp_path / "b", base, trainer, **world), fail=False)
    for step in (1, 2):
        assert everything(back, step) == everything(clean, step)
    checkpoint = back.folder.path(2)
    everything_moved(checkpoint)
    answers_as_scored(checkpoint, base, tmp_path)


QUICK = (("qwen3_5_text", "sft"), ("mistral3", "dpo"))
CASES = [(name, trainer) for name in FAMILIES for trainer in ("sft", "dpo", "grpo")]


@pytest.mark.parametrize(
    ("name", "trainer"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.long) for case in CASES],
)
def test_a_family_trains_goes_back_and_is_exported(tmp_path: Path, name: str, trainer: str) -> None:
    base = save_family(name, tmp_path / "base", num_hidden_layers=2)
    goes_back_and_is_exported(tmp_path, base, trainer, {"targets": list(FAMILIES[name])})


MANY = {"targets": "all-linear", "rank": 2, "alpha": 8}
ADAPTERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "every linear layer": ("qwen3", "sft", MANY),
    "every linear layer of experts": ("qwen3_moe", "sft", MANY),
    "every linear layer of a hybrid": ("jamba", "sft", MANY),
    "every linear layer by dora": ("llama", "dpo", {**MANY, "kind": "dora"}),
    "every linear layer by rslora": ("llama", "grpo", {**MANY, "kind": "rslora"}),
    "a pattern": ("llama", "sft", {"targets": r".*layers\.1\..*\.(q|v)_proj"}),
    "names and a pattern": ("qwen3", "sft", {"targets": ["o_proj", r".*0\.mlp\..*_proj"]}),
    "own ranks": ("qwen3", "sft", {"rank_pattern": {"q_proj": 4, r"layers\.0\..*v_proj": 1}}),
    "own alphas": ("llama", "dpo", {"alpha_pattern": {"k_proj": 3}, "rank_pattern": {"k_proj": 1}}),
    "gaussian": ("llama", "sft", {"init": "gaussian"}),
    "orthogonal": ("llama", "sft", {"init": "orthogonal", "rank": 4}),
    "pissa": ("llama", "sft", {"init": "pissa", "rank": 2, "alpha": 2}),
    "pissa preferred": ("qwen3", "dpo", {"init": "pissa", "rank": 2, "alpha": 2}),
    "pissa rewarded": ("qwen3", "grpo", {"init": "pissa", "rank": 2, "alpha": 2}),
    "olora": ("llama", "sft", {"init": "olora", "rank": 2, "alpha": 2}),
    "both ends": ("llama", "sft", {"targets": ["q_proj", "embed_tokens", "lm_head"]}),
    "both ends preferred": ("llama", "dpo", {"targets": ["q_proj", "embed_tokens", "lm_head"]}),
    "the output rewarded": ("llama", "grpo", {"targets": ["lm_head"]}),
    "biases preferred": ("qwen2", "dpo", {"bias": "all"}),
    "experts": ("qwen3_moe", "sft", {"targets": ["q_proj", "gate_up_proj", "down_proj"]}),
    "experts of gpt-oss": ("gpt_oss", "sft", {"targets": ["experts.down_proj", "gate_up_proj"]}),
    "experts preferred": ("gpt_oss", "dpo", {"targets": ["gate_up_proj"]}),
    "experts among layers": ("deepseek_v3", "sft", {"targets": ["o_proj", "experts.down_proj"]}),
}
SOON = ("every linear layer", "own ranks", "pissa", "both ends", "experts")


@pytest.mark.parametrize(
    "name", [n if n in SOON else pytest.param(n, marks=pytest.mark.long) for n in ADAPTERS]
)
def test_adapters_as_the_field_writes_them(tmp_path: Path, name: str) -> None:
    family, trainer, adapter = ADAPTERS[name]
    said: dict[str, Any] = {"tie_word_embeddings": False}
    base = save_family(family, tmp_path / "base", num_hidden_layers=2, **said)
    goes_back_and_is_exported(tmp_path, base, trainer, adapter)


@pytest.mark.long
def test_new_tokens_of_a_resized_base_are_learned(tmp_path: Path) -> None:
    """Tokens that the user has added, with the embeddings resized for them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = save_family("llama", tmp_path / "base", num_hidden_layers=2, tie_word_embeddings=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<call>", "</call>"], special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    world: dict[str, Any] = {
        "adapter": {"rank": 2, "modules_to_save": ["embed_tokens", "lm_head"]},
        "stage": {"steps": 2, "checkpoint_every": 1, "batch_size": 4, "learning_rate": 0.01},
        "source": {"completion": "<call>{{ good }}</call>"},
    }
    made = trained(write_method_world(tmp_path / "a", base, "sft", **world), fail=True)
    checkpoint = made.folder.path(2)
    answers_as_scored(checkpoint, base, tmp_path)
    merged = plainly(tmp_path / "merged")
    number = tokenizer.convert_tokens_to_ids("<call>")
    for end in ("get_input_embeddings", "get_output_embeddings"):
        was, now = (getattr(each, end)().weight[number] for each in (plainly(base), merged))
        assert not torch.equal(was, now), end


def everything_moved(checkpoint: Path) -> None:
    """Each matrix B begins with zeros, and stays so where nothing was ever learned through it."""
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "adapter_model.safetensors")
    still = [name for name, w in weights.items() if "lora_B" in name and not w.any()]
    assert not still


def answers_as_scored(checkpoint: Path, base: Path, tmp_path: Path) -> None:
    """What plain transformers and peft load of the exports says what was scored."""
    import torch
    from peft import PeftModel

    from harness.models.resolve import load

    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(checkpoint), workspace)
    ids = torch.arange(3, 43)[None]
    scored = load(files)[0]
    plain = plainly(base)
    with torch.inference_mode():
        wanted = scored(ids).logits
        before = plain(ids).logits
    assert (wanted - before).abs().max() > 1e-4 * before.abs().max()
    merged = export(files, tmp_path / "merged", "merge", card="", workspace=workspace).folder
    adapter = export(files, tmp_path / "adapter", "adapter", card="", workspace=workspace).folder
    for model in (plainly(merged), PeftModel.from_pretrained(plain, adapter)):
        with torch.inference_mode():
            found = model.eval()(ids).logits
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def plainly(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    except ValueError:
        return AutoModelForImageTextToText.from_pretrained(folder, dtype="float32").eval()
