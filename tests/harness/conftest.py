from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.app import main
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.store import Store
from tests.harness.suite_builders import Ratchet

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.registry.registry import Registry
    from harness.sandbox.pool import Sandbox
    from tests.openai_server import ModelServer


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.at(tmp_path / "home").ensure()


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    with Store(workspace) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A user's folder with no workspace in it yet; the command's own is the one returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Workspace.at()


@pytest.fixture
def ratchet(home: Workspace, capsys: pytest.CaptureFixture[str]) -> Ratchet:
    """The command as it is typed: exit code, and all that was printed, on one line."""

    def run(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


@pytest.fixture
def registry(workspace: Workspace, store: Store) -> Registry:
    from harness.registry.registry import Registry

    return Registry(workspace, store)


@pytest.fixture
def promote(registry: Registry, tmp_path: Path) -> Callable[[str], str]:
    """Makes a checkpoint out of a word and promotes it on the line of `watch_looks`; its digest."""
    from tests.harness.watch.look_builders import LINE

    def make(word: str) -> str:
        folder = tmp_path / f"model-{word}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(word * 10)
        (folder / "adapter_config.json").write_text("{}")
        digest = registry.add(folder)
        registry.promote(LINE, digest, override="for the test")
        return digest

    return make


@pytest.fixture(scope="module")
def behind(tiny_llama: Path) -> Any:
    """The model itself, which `server` serves."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.backends.transformers.backend import TransformersBackend

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    return TransformersBackend(model, AutoTokenizer.from_pretrained(tiny_llama), max_length=258)


@pytest.fixture
def server(behind: Any) -> Iterator[ModelServer]:
    from tests.openai_server import serving

    with serving(behind) as started:
        yield started


@pytest.fixture(scope="module")
def no_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home without a workspace, so that nothing is read from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATCHET_HOME", str(tmp_path_factory.mktemp("empty") / "no-workspace"))
        yield


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    from harness.sandbox.pool import Sandbox

    with Sandbox(workers=2, minimum="C") as opened:
        yield opened
