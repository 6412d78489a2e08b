"""TRL's own scripts, with the lines of docs/wrap.md added, on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.method_builders import PAIRS, write_suites

PAGE = Path(__file__).parents[3] / "docs" / "wrap.md"
TRAIN = "    # Train the model\n"
ROWS = {
    "sft": lambda p: {"prompt": p["ask"], "completion": p["good"]},
    "dpo": lambda p: {"prompt": p["ask"], "chosen": p["good"], "rejected": p["bad"]},
    "kto": lambda p: {"prompt": p["ask"], "completion": p["good"], "label": p["ok"]},
    "reward": lambda p: {"chosen": p["ask"] + p["good"], "rejected": p["ask"] + p["bad"]},
    "grpo": lambda p: {"prompt": p["ask"]},
    "rloo": lambda p: {"prompt": p["ask"]},
}
SAMPLING = ["--num_generations", "2", "--max_completion_length", "6", "--reward_funcs", "own.short"]
PEFT = ["--use_peft", "true", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj"]
MORE = {"dpo": PEFT, "kto": PEFT, "grpo": SAMPLING, "rloo": SAMPLING}


def added_lines() -> list[str]:
    """What the page adds to a script, as it stands there."""
    found = re.findall(r"^\+(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [line for line in found if line.strip()]


def with_the_gate(source: str, suite: Path, home: Path) -> str:
    lines = "\n".join(added_lines())
    assert '"suite.yaml"' in lines
    given = lines.replace('"suite.yaml"', f'"{suite}", store="{home}"')
    assert source.count(TRAIN) == 1
    return source.replace(TRAIN, f"{given}\n\n{TRAIN}")


def test_the_page_adds_ten_lines_at_most() -> None:
    assert 0 < len(added_lines()) <= 10


@pytest.mark.parametrize(
    "name",
    ["sft", *(pytest.param(n, marks=pytest.mark.long) for n in ROWS if n != "sft")],
)
def test_a_script_of_trl_runs_under_the_gate(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_suites(tmp_path)
    rows = [json.dumps(ROWS[name](pair)) for pair in PAIRS]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "own.py").write_text(
        "def short(completions, **_):\n    return [-float(len(c)) for c in completions]\n"
    )
    spec = importlib.util.find_spec(f"trl.scripts.{name}")
    assert spec is not None
    assert spec.origin is not None
    suite = tmp_path / ("pairs.yaml" if name == "reward" else "suite.yaml")
    source = with_the_gate(Path(spec.origin).read_text(encoding="utf-8"), suite, tmp_path / "home")
    (tmp_path / "gated_script.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gated_script", raising=False)
    script: Any = importlib.import_module("gated_script")
    words = [
        *("--model_name_or_path", str(tiny_llama), "--dataset_name", str(tmp_path / "rows")),
        *("--output_dir", str(tmp_path / "out"), "--max_steps", "4", "--save_steps", "2"),
        *("--per_device_train_batch_size", "4", "--learning_rate", "0.01"),
        *("--report_to", "none", "--use_cpu", "true", "--bf16", "false", "--dtype", "float32"),
        *("--gradient_checkpointing", "false", "--save_total_limit", "1"),
        *MORE.get(name, []),
    ]
    script.main(*script.make_parser().parse_args_and_config(args=words))
    [training] = (tmp_path / "home" / "trainings").iterdir()
    state = json.loads((training / "state.json").read_text(encoding="utf-8"))
    assert state["status"] in ("finished", "stopped")
    assert {judged["step"] for judged in state["judged"]} >= {0, 2}
    assert (tmp_path / "out" / "best").is_symlink()
    saved = {path.name for path in (tmp_path / "out").iterdir()}
    assert saved & {"model.safetensors", "adapter_model.safetensors"}
