from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.store import Store
from harness.workspace import HOME_VARIABLE, Workspace
from tests.harness.worlds import Ratchet


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
