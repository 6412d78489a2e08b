"""Configurations of other trainers become recipes that load, and what is left out is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from tests.trainers.method_builders import write_suites
from trainers.config.load import load_recipe

LLAMA_FACTORY = """\
### model
model_name_or_path: Qwen/Qwen3-4B
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,alpaca_en_demo
template: qwen3
enable_thinking: false
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16

### output
output_dir: saves/qwen3-4b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000

### eval
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
"""
INFO: dict[str, Any] = {
    "identity": {
        "file_name": "identity.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
        },
    },
    "alpaca_en_demo": {"file_name": "alpaca_en_demo.json"},
    "dpo_en_demo": {
        "file_name": "dpo.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    },
    "dpo_texts": {
        "file_name": "dpo_texts.json",
        "ranking": True,
        "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
    },
    "kto_en_demo": {
        "file_name": "kto.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "kto_tag": "label"},
        "tags": {"role_tag": "role", "content_tag": "content"},
    },
    "history": {
        "file_name": "history.json",
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "system": "system",
            "history": "history",
        },
    },
    "c4_demo": {"file_name": "c4.jsonl", "columns": {"prompt": "text"}},
}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


CHATS = [
    {"conversations": [human(f"q{n}"), gpt("a")], "system": "", "tools": "[]"} for n in range(70)
]
ROWS: dict[str, list[dict[str, Any]]] = {
    "identity.json": CHATS,
    "alpaca_en_demo.json": [
        {"instruction": f"Do {n}", "input": "x" if n % 2 else "", "output": "done"}
        for n in range(80)
    ],
    "dpo.json": [
        {"conversations": [human(f"q{n}")], "chosen": gpt("good"), "rejected": gpt("bad")}
        for n in range(20)
    ],
    "dpo_texts.json": [
        {"instruction": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(20)
    ],
    "kto.json": [{"messages": [user(f"q{n}"), said("a")], "label": n % 2 == 0} for n in range(20)],
    "history.json": [
        {
            "instruction": "next",
            "input": "",
            "output": f"a{n}",
            "system": "Be brief.",
            "history": [["first", "one"]],
        }
        for n in range(20)
    ],
    "c4.jsonl": [{"text": f"The lazy dog {n}."} for n in range(20)],
    "data.jsonl": [{"messages": [user(f"q{n}"), said("a")]} for n in range(24)],
    "pairs.jsonl": [
        {"messages": [user(f"q{n}"), said("good")], "rejected_response": "bad"} for n in range(12)
    ],
    "plain.jsonl": [{"query": f"q{n}", "response": "a"} for n in range(10)],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_suites(tmp_path)
    (tmp_path / "data").mkdir()
    for name, rows in ROWS.items():
        text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (tmp_path / "data" / name).write_text(text, encoding="utf-8")
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
    return tmp_path


def made(folder: Path, text: str, *more: str, name: str = "theirs.yaml") -> tuple[int, Any]:
    """(exit code, the recipe as it was read) of `ratchet recipes from`."""
    (folder / name).write_text(text, encoding="utf-8")
    to = folder / "ours.yaml"
    suite = "pairs.yaml" if "stage: rm" in text else "suite.yaml"
    command = ["recipes", "from", str(folder / name), "--suite", str(folder / suite)]
    code = main([*command, "--to", str(to), *more])
    return code, yaml.safe_load(to.read_text("utf-8")) if to.exists() else None


def test_llama_factory_with_its_datasets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, recipe = made(folder, LLAMA_FACTORY)
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0, told
    assert recipe["base"] == "Qwen/Qwen3-4B"
    assert recipe["adapter"]["rank"] == 8
    assert recipe["adapter"]["alpha"] == 16
    assert recipe["adapter"]["targets"] == "all-linear"
    data = recipe["data"]
    assert (data["max_length"], data["too_long"], data["validation"]) == (2048, "cut", 0.1)
    assert data["template"] == {"enable_thinking": False}
    assert [source["weight"] for source in data["mix"]] == [70, 80]
    (stage,) = recipe["stages"]
    # Rounded up to whole segments where the recipe is read.
    assert ("steps" in stage, stage["epochs"]) == (False, 3.0)
    assert stage["checkpoint_every"] == 11
    assert (stage["batch_size"], stage["gradient_accumulation"]) == (1, 8)
    assert (stage["learning_rate"], stage["schedule"], stage["warmup_steps"]) == (1e-4, "cosine", 6)
    for key, why in (
        ("max_samples", "so many rows"),
        ("template", "own chat template"),
        ("eval_steps", "judged"),
        ("trust_remote_code", "never run"),
    ):
        assert f"{key}: " in told
        assert why in told
    loaded = load_recipe(folder / "ours.yaml")
    learned = {example.source: example for example in loaded.stages[0].examples}
    assert learned[0].turns[-1]["content"] == "a"
    assert learned[1].prompt[-1]["content"].startswith("Do ")


@pytest.mark.parametrize(
    ("changes", "trainer", "shape"),
    [
        ({"stage": "dpo", "dataset": "dpo_en_demo", "pref_beta": 0.2}, "dpo", "pair"),
        ({"stage": "dpo", "dataset": "dpo_texts", "pref_loss": "orpo"}, "dpo", "pair"),
        ({"stage": "rm", "dataset": "dpo_en_demo"}, "reward", "pair"),
        ({"stage": "kto", "dataset": "kto_en_demo", "per_device_train_batch_size": 2}, "kto", ""),
        ({"stage": "pt", "dataset": "c4_demo"}, "sft", "text"),
        ({"dataset": "history", "mask_history": True}, "sft", "conversation"),
        ({"finetuning_type": "full", "dataset": "history"}, "sft", "conversation"),
        ({"pissa_init": True, "lora_target": "q_proj,v_proj"}, "sft", ""),
        ({"use_dora": True, "quantization_bit": 4, "bf16": None}, "sft", ""),
    ],
)
def test_llama_factorys_stages(
    folder: Path, changes: dict[str, Any], trainer: str, shape: str
) -> None:
    body = {**yaml.safe_load(LLAMA_FACTORY), **changes}
    kept = {key: value for key, value in body.items() if value is not None}
    code, recipe = made(folder, yaml.safe_dump(kept))
    assert code == 0
    assert recipe["stages"][0]["trainer"] == trainer
    loaded = load_recipe(folder / "ours.yaml")
    assert not shape or {source.shape for source in loaded.stages[0].data.mix} == {shape}
    if changes.get("finetuning_type") == "full":
        assert "adapter" not in recipe
    if changes.get("pissa_init"):
        assert recipe["adapter"]["init"] == "pissa"
        assert recipe["adapter"]["targets"] == ["q_proj", "v_proj"]
    if changes.get("use_dora"):
        assert recipe["adapter"]["kind"] == "dora"
        assert recipe["quantize"] == "4bit"
        assert "dtype" not in recipe


AXOLOTL = """\
base_model: NousResearch/Llama-3.2-1B
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
chat_template: llama3
datasets:
  - path: data/data.jsonl
    type: chat_template
    field_messages: messages
    roles_to_train: ["assistant"]
  - path: data/alpaca_en_demo.json
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.05
output_dir: ./outputs/lora-out
sequence_len: 4096
sample_packing: true
pad_to_sequence_len: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 1
optimizer: paged_adamw_8bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_steps: 2
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: <|end_of_text|>
"""


def test_axolotl(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, recipe = made(folder, AXOLOTL)
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0, told
    assert recipe["quantize"] == "4bit"
    assert (recipe["adapter"]["rank"], recipe["adapter"]["dropout"]) == (32, 0.05)
    assert recipe["data"]["too_long"] == "drop"
    chat, alpaca = recipe["data"]["mix"]
    assert (chat["messages"], chat["learn"]) == ("{{ messages }}", "all")
    assert "instruction" in alpaca["prompt"]["user"]
    assert recipe["stages"][0]["warmup_steps"] == 2
    assert "special_tokens: set them in the base's tokenizer_config.json" in told


@pytest.mark.parametrize(
    ("entry", "more", "shape"),
    [
        ({"path": "data/c4.jsonl", "type": "completion"}, {}, "text"),
        (
            {
                "path": "json",
                "data_files": "data/plain.jsonl",
                "type": {"field_instruction": "query", "field_output": "response"},
            },
            {},
            "answer",
        ),
        ({"path": "data/identity.json", "type": "sharegpt"}, {}, "conversation"),
        ({"path": "data/pairs.jsonl", "type": "chat_template.default"}, {"rl": "dpo"}, "pair"),
        ({"path": "data/plain.jsonl", "type": "unknown_one"}, {"adapter": None}, "answer"),
    ],
)
def test_axolotls_datasets(
    folder: Path, entry: dict[str, Any], more: dict[str, Any], shape: str
) -> None:
    body = {**yaml.safe_load(AXOLOTL), "datasets": [entry], **more}
    kept = {key: value for key, value in body.items() if value is not None}
    if more.get("rl") == "dpo":
        entry["field_messages"] = "messages"
        rows = [
            {"messages": [user(f"q{n}")], "chosen": said("good"), "rejected": said("bad")}
            for n in range(12)
        ]
        text = "\n".join(map(json.dumps, rows))
        (folder / "data" / "pairs.jsonl").write_text(text, encoding="utf-8")
    code, _ = made(folder, yaml.safe_dump(kept))
    assert code == 0
    loaded = load_recipe(folder / "ours.yaml")
    assert [source.shape for source in loaded.stages[0].data.mix] == [shape]


SWIFT = """\
# two GPUs
CUDA_VISIBLE_DEVICES=0 \\
swift sft \\
    --model Qwen/Qwen2.5-7B-Instruct \\
    --train_type lora \\
    --dataset 'data/data.jsonl' data/plain.jsonl#500 \\
    --torch_dtype bfloat16 \\
    --num_train_epochs 1 \\
    --per_device_train_batch_size 2 \\
    --learning_rate 1e-4 \\
    --lora_rank 8 \\
    --lora_alpha 32 \\
    --target_modules all-linear \\
    --gradient_accumulation_steps 4 \\
    --eval_steps 50 --save_steps 50 --save_total_limit 2 \\
    --max_length 2048 \\
    --system "Be brief." \\
    --warmup_ratio 0.05 \\
    --dataloader_num_workers=4
"""


def test_ms_swifts_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, recipe = made(folder, SWIFT, name="train.sh")
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0, told
    chat, plain = recipe["data"]["mix"]
    assert chat["learn"] == "all"
    assert plain["prompt"]["system"] == "Be brief."
    assert (recipe["stages"][0]["batch_size"], recipe["data"]["too_long"]) == (2, "drop")
    assert recipe["stages"][0]["learning_rate"] == 1e-4
    assert "dataset data/plain.jsonl#500: all rows are read, and not 500" in told
    assert "dataloader_num_workers: " in told


def test_ms_swifts_yaml(folder: Path) -> None:
    text = (
        "model: Qwen/Qwen2.5-7B-Instruct\nrlhf_type: dpo\ntrain_type: lora\nbeta: 0.2\n"
        "dataset:\n  - data/pairs.jsonl\ntarget_modules: all-linear\nnum_train_epochs: 1\n"
    )
    code, recipe = made(folder, text)
    assert code == 0
    (stage,) = recipe["stages"]
    assert (stage["trainer"], stage["beta"]) == ("dpo", 0.2)
    (first, *_) = load_recipe(folder / "ours.yaml").stages[0].examples
    assert (first.chosen, first.rejected) == ("good", "bad")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LLAMA_FACTORY.replace("identity,", "identities,"), "has no dataset 'identities'"),
        (LLAMA_FACTORY.replace("stage: sft", "stage: orpo"), "no stage 'orpo'"),
        (LLAMA_FACTORY.replace("type: lora", "type: freeze"), "recipes train no 'freeze'"),
        (LLAMA_FACTORY.replace("rate: 1.0e-4", "rate: fast"), "'fast' is no number"),
        (AXOLOTL + "rl: orpo\n", "no 'orpo'"),
        (AXOLOTL.replace("data/data.jsonl", "data/none.jsonl"), "the data is not there"),
        ("name: x\nstages: []\n", "no configuration that is known here"),
        ("model: a\ndataset: [data/c4.jsonl]\ntrain_type: vera\n", "recipes train no 'vera'"),
    ],
)
def test_what_no_recipe_can_be_made_of_is_said(
    folder: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, recipe = made(folder, text)
    assert code == 3
    assert recipe is None
    assert says in " ".join(capsys.readouterr().err.split())


def test_an_unknown_key_is_listed_and_a_file_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = made(folder, LLAMA_FACTORY + "brand_new_key: 7\n")
    assert code == 0
    assert "brand_new_key: this key is not known here" in capsys.readouterr().out
    assert "brand_new_key" in (folder / "ours.yaml").read_text("utf-8")
    code, _ = made(folder, LLAMA_FACTORY)
    assert code == 3
    assert made(folder, LLAMA_FACTORY, "--force")[0] == 0
