"""Bad recipes: one message with its place and its cure, before a weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import main
from harness.errors import UserError
from harness.store import Store
from harness.workspace import Workspace
from tests.tiny import save_tiny_llama
from tests.trainers.driving import Quiet
from tests.trainers.method_worlds import stage_of, write_method_world
from trainers.recipe import load_recipe
from trainers.stages import run_stages

NOWHERE = Path("nowhere")


def edit(path: Path, *place: str | int, value: Any) -> Path:
    raw = yaml.safe_load(path.read_text("utf-8"))
    node = raw
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


BAD: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("sft", ("stages", 0, "stepss"), 3, "unknown key 'stepss'"),
    ("sft", ("adapter", "kind"), "qlora", "adapter"),
    ("sft", ("adapter",), {"kind": "prefix", "rank": 4}, "has no 'rank'"),
    ("sft", ("adapter",), {"kind": "lora", "virtual_tokens": 4}, "has no 'virtual_tokens'"),
    ("sft", ("quantise",), "3bit", "4bit"),
    ("dpo", ("adapter",), {"kind": "prefix"}, "can't train a prefix"),
    ("dpo", ("data", "mix", 0, "chosen"), "{{ missing }}", "'missing' is undefined"),
    ("kto", ("data", "mix", 0, "label"), "perhaps", "a label is true or false"),
    ("kto", ("stages", 0, "batch_size"), 1, "at least 2"),
    ("sft", ("data", "mix", 0, "where"), {"ask": "no such question"}, "no row .* is left"),
    ("sft", ("data", "mix", 0, "where"), {"colour": "red"}, "'colour' of `where` is no field"),
    ("sft", ("data", "validation"), 0.001, "can't be split"),
    ("sft", ("health",), {"kl": {"at_most": 1}}, "doesn't measure 'kl'"),
    ("sft", ("health",), {"loss_gap": {"at_most": 1}}, "needs rows to validate on"),
    ("grpo", ("health",), {"rewards/json": {"at_most": 1}}, "doesn't measure 'rewards/json'"),
    ("grpo", ("stages", 0, "generations"), 3, "can't be shared evenly"),
    ("grpo", ("stages", 0, "reuse"), 4, "multiple of reuse"),
    ("grpo", ("stages", 0, "rewards"), [], "needs `rewards`"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "lenght"}], "no metric named 'lenght'"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "self_bleu"}], "judges no single answer"),
    ("ppo", ("stages", 0, "rewards"), [{"kind": "function", "path": "no.py:f"}], "has no file"),
    ("rloo", ("stages", 0, "rewards"), [{"kind": "model", "path": "./no"}], "has no model at"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "model", "path": "stage:x"}], "no reward stage"),
    (
        "grpo",
        ("stages", 0, "rewards"),
        [{"kind": "rouge_l", "reference": "{{ nope }}"}],
        "'nope' is undefined",
    ),
    ("ppo", ("stages", 0, "safety"), {"file": "words.txt"}, "word list is not there"),
    ("sft", ("stages", 0, "safety"), {"tries": 2}, "the trainer sft has no 'safety'"),
    ("dpo", ("stages", 0, "rewards"), [{"kind": "json_valid"}], "the trainer dpo has no 'rewards'"),
    ("grpo", ("stages", 0, "ppo"), {"epochs": 2}, "the trainer grpo has no 'ppo'"),
    ("sft", ("data", "mix", 0, "source"), "empty.jsonl", "has no rows"),
    ("ppo", ("adapter",), {"kind": "none"}, "needs a LoRA adapter"),
    ("ppo", ("stages", 0, "ppo"), {"epochs": 3}, "multiple of epochs"),
    ("reward", ("gate", "suite"), "suite.yaml", "asks for perplexity"),
    ("webhook", ("webhook",), "ftp://x", "webhook"),
]


@pytest.mark.parametrize(("trainer", "place", "value", "says"), BAD)
def test_a_bad_recipe_is_refused(
    tmp_path: Path, trainer: str, place: tuple[str | int, ...], value: Any, says: str
) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft" if trainer == "webhook" else trainer)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(edit(path, *place, value=value))
    assert caught.value.file is not None


def test_data_of_another_shape_than_the_trainer_learns_from(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "dpo")
    edit(path, "stages", 0, value=stage_of("kto"))
    with pytest.raises(UserError, match="can't learn from a source of `prompt`, `chosen`") as found:
        load_recipe(path)
    assert "label" in str(found.value.cure)


def test_a_stage_without_a_gate(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    raw = yaml.safe_load(path.read_text("utf-8"))
    del raw["gate"]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="has no `gate`"):
        load_recipe(path)


def test_two_stages_of_one_name(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    stages = [stage_of("sft"), stage_of("sft")]
    with pytest.raises(UserError, match="two stages are named 'sft'"):
        load_recipe(edit(path, "stages", value=stages))


def start(path: Path) -> None:
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        list(run_stages(load_recipe(path), workspace, store, Quiet()))  # type: ignore[arg-type]


def test_a_quantised_base_needs_a_gpu(tmp_path: Path, tiny_llama: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = write_method_world(tmp_path, tiny_llama, "sft", quantise="4bit")
    with pytest.raises(UserError, match="needs a GPU") as caught:
        start(path)
    assert caught.value.field == "quantise"


def test_a_tracker_that_is_not_installed(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    path = write_method_world(tmp_path, tiny_llama, "sft", tracking=["wandb"])
    with pytest.raises(UserError, match="tracks with wandb, which is not installed"):
        start(path)


@pytest.mark.parametrize("field", ["targets", "modules_to_save"])
def test_modules_that_the_base_does_not_have(tmp_path: Path, tiny_llama: Path, field: str) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft", adapter={field: ["w_qkv"]})
    with pytest.raises(UserError, match="no module named 'w_qkv'") as caught:
        start(path)
    assert caught.value.field == f"adapter.{field}"


def test_a_row_longer_than_allowed_is_not_dropped_in_silence(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = edit(write_method_world(tmp_path, tiny_llama, "reward"), "data", "max_length", value=8)
    with pytest.raises(UserError, match="more than 8"):
        start(path)


def test_a_checkpoint_of_another_base_is_not_continued(tmp_path: Path, tiny_llama: Path) -> None:
    other = save_tiny_llama(tmp_path / "other", seed=8)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(other), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"\0" * 16)
    path = write_method_world(tmp_path, tiny_llama, "sft", start="adapter")
    with pytest.raises(UserError, match="belongs to another base model"):
        start(path)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return [float('nan')] * len(completions)", "nan"),
        ("return [1.0]", "1"),
        ("return ['good'] * len(completions)", "'good'"),
        ("return None", "none"),
    ],
)
def test_a_reward_that_says_nothing_usable(
    tmp_path: Path, tiny_llama: Path, body: str, says: str
) -> None:
    code = f"def mine(prompts, completions, **columns):\n    {body}\n"
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    reward = {"kind": "function", "path": "mine.py:mine", "name": "mine"}
    path = write_method_world(tmp_path, tiny_llama, "grpo", stage={"rewards": [reward]})
    with pytest.raises(UserError, match="mine") as caught:
        start(path)
    assert says in str(caught.value).lower()


def test_the_command_says_it_in_one_message(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft", adapter={"targets": ["w_qkv"]})
    assert main(["train", str(path), "--home", str(tmp_path / "home")]) == 3
    shown = capsys.readouterr()
    assert "no module named 'w_qkv'" in shown.err + shown.out
    assert "Traceback" not in shown.err + shown.out
