from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store import Store
from harness.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.at(tmp_path / "home").ensure()


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    with Store(workspace) as opened:
        yield opened
