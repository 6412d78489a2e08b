"""Recipes that only the base, a reward or what is installed shows to be wrong: one message too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.tiny import save_tiny_llama
from tests.trainers.method_builders import write_method_world
from tests.trainers.recipe_builders import edit
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.loop.stages import run_stages


def start(path: Path) -> None:
    workspace = Workspace.at(path.parent / "home").ensure()
    with Store(workspace) as store:
        list(run_stages(load_recipe(path), workspace, store, Quiet()))  # type: ignore[arg-type]


def test_a_quantized_base_needs_a_gpu(tmp_path: Path, tiny_llama: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = write_method_world(tmp_path, tiny_llama, "sft", quantize="4bit")
    with pytest.raises(UserError, match="needs a GPU") as caught:
        start(path)
    assert caught.value.field == "quantize"


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


def test_a_row_longer_than_the_model_reads_is_refused_too(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft")
    edit(path, "data", "mix", 0, "completion", value="{{ good * 400 }}")
    with pytest.raises(UserError, match="which is all that the model reads"):
        start(edit(path, "data", "max_length", value=100_000))


def test_a_checkpoint_of_another_base_is_not_continued(tmp_path: Path, tiny_llama: Path) -> None:
    other = save_tiny_llama(tmp_path / "other", seed=8)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(other), "peft_type": "LORA", "r": 4, "lora_alpha": 8}
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
        ("raise SystemExit(0)", "failed: systemexit"),
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


@pytest.mark.parametrize("trainer", ["grpo", "ppo"])
def test_a_reward_sees_each_row_as_it_was_written(
    tmp_path: Path, tiny_llama: Path, trainer: str
) -> None:
    """A table of the rows would give each object the others' keys, and refuse mixed types."""
    code = (
        "import json\n"
        "def mine(prompts, completions, seen, **columns):\n"
        "    with open(__file__ + '.seen', 'a') as file:\n"
        "        file.writelines(json.dumps(each) + '\\n' for each in seen)\n"
        "    return [float(len(text)) for text in completions]\n"
    )
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    reward = {"kind": "function", "path": "mine.py:mine", "name": "mine"}
    stage = {"rewards": [reward], "steps": 2, "batch_size": 8}
    path = write_method_world(tmp_path, tiny_llama, trainer, stage=stage)
    values = [{"a": 1}, {"b": "two"}, 3, "four"]
    lines = [json.dumps({"ask": f"fox {i}?", "seen": each}) for i, each in enumerate(values)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    start(path)
    seen = {line.strip() for line in (tmp_path / "mine.py.seen").read_text("utf-8").splitlines()}
    assert seen == {json.dumps(each) for each in values}


def test_the_command_says_it_in_one_message(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_method_world(tmp_path, tiny_llama, "sft", adapter={"targets": ["w_qkv"]})
    assert main(["train", str(path), "--home", str(tmp_path / "home")]) == 3
    shown = capsys.readouterr()
    assert "no module named 'w_qkv'" in shown.err + shown.out
    assert "Traceback" not in shown.err + shown.out
