"""docs/backends.md and docs/ecosystem.md: every command in them is run, every file read."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backends.openai.open import ServedModel
from harness.cli.app import main
from tests.harness.suite_builders import suite_yaml, write_jsonl
from tests.openai_server import ModelServer, serving
from tests.tiny import save_tiny_llama

ROOT = Path(__file__).parents[3]
BACKENDS = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
ECOSYSTEM = (ROOT / "docs" / "ecosystem.md").read_text(encoding="utf-8")


def _commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("ratchet")]


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers are the same in fp32 and bf16: what the pages show is no toss-up."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "decided", decided=True)


@pytest.fixture(scope="module")
def server(tiny_llama: Path) -> Iterator[ModelServer]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.backends.transformers.backend import TransformersBackend

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    with serving(TransformersBackend(model, tokenizer, max_length=258)) as started:
        yield started


@pytest.fixture
def folder(
    tmp_path: Path, tiny_llama: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with the models and files that the pages name."""
    rows = [{"id": f"{n}", "text": f"The capital of France is number {n}."} for n in range(24)]
    (tmp_path / "suites").mkdir()
    write_jsonl(tmp_path / "suites" / "texts.jsonl", rows)
    ask = {
        "data": "texts.jsonl",
        "prompt": {"user": "{{ text }}"},
        "generate": {"max_new_tokens": 4},
        "metrics": [{"length": {"unit": "characters"}}],
    }
    made = suite_yaml(tmp_path / "suites", tasks={"ask": ask})
    made.rename(tmp_path / "suites" / "support.yaml")
    (tmp_path / "support-v7").symlink_to(tiny_llama)
    described = _yaml(BACKENDS, "served.yaml") | {"url": server.url, "model": "tiny"}
    del described["context"]
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _yaml(page: str, name: str) -> dict[str, Any]:
    (block,) = re.findall(rf"```yaml\n# {re.escape(name)}\n(.*?)```", page, re.DOTALL)
    read: dict[str, Any] = yaml.safe_load(block)
    return read


def _run(command: str, server: ModelServer, replace: dict[str, str] | None = None) -> int:
    command = command.replace("http://127.0.0.1:8000/v1#support", f"{server.url}#tiny")
    for old, new in (replace or {}).items():
        command = command.replace(old, new)
    return main([*shlex.split(command)[1:], "--home", ".ratchet"])


def test_the_commands_of_backends_run(folder: Path, server: ModelServer) -> None:
    commands = _commands(BACKENDS)
    verbs = [shlex.split(command)[1] for command in commands]
    assert verbs == ["score", "gate", "score", "parity", "parity"]
    anchor = {"line:support-bot": "./support-v7"}
    codes = [_run(command, server, anchor) for command in commands]
    assert codes == [0, 0, 0, 0, 0]


def test_the_files_of_backends_are_read() -> None:
    for name in ("served.yaml", "candidate.yaml"):
        ServedModel.model_validate(_yaml(BACKENDS, name))


def test_the_suite_of_ecosystem_is_valid() -> None:
    from harness.suite.schema import SuiteModel

    suite = SuiteModel.model_validate(_yaml(ECOSYSTEM, "suites/borrowed.yaml"))
    assert all(task.data.startswith("lm_eval:") for task in suite.tasks.values())


def test_the_commands_of_ecosystem_run(folder: Path, server: ModelServer) -> None:
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    assert _run(_commands(BACKENDS)[0], server) == 0
    with Store(Workspace.at(folder / ".ratchet")) as store:
        (row,) = store.query("SELECT run_id FROM runs")
    for command in _commands(ECOSYSTEM):
        if "mlflow" in command or "wandb" in command or "training:" in command:
            assert "ratchet publish" in command  # run in test_exporters, with stores of their own
            continue
        if "int8" in command:
            assert shlex.split(command)[1] in ("export-model", "gate")
            continue  # run in tests/trainers/export/test_quantize.py
        if "install-completion" in command or (
            "tensorboard" in command and not _installed("tensorboard")
        ):
            continue
        assert _run(command, server, {"run:ID": f"run:{row['run_id']}"}) == 0
    assert "model-index" in (folder / "README.md").read_text(encoding="utf-8")


def _installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def test_the_pre_commit_hook_runs_over_the_files_it_names(folder: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert f"id: {hook['id']}" in ECOSYSTEM
    shipped = [f"suites/{path.name}" for path in (ROOT / "suites").glob("*.yaml")]
    assert shipped
    assert all(re.search(hook["files"], name) for name in shipped)
    entry = str(Path(sys.executable).with_name(hook["entry"]))
    good = str(folder / "suites" / "support.yaml")
    bad = folder / "suites" / "bad.yaml"
    bad.write_text("name: bad\ntasks: {}\n")
    assert subprocess.run([entry, good], check=False).returncode == 0
    done = subprocess.run([entry, good, str(bad)], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "bad.yaml" in done.stderr
