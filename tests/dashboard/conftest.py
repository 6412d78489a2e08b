"""A small synthetic history that the dashboard's tests look at, written once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.store import Store

NIGHTS = 6


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace written by `ratchet demo-data --nights 6`."""
    from dashboard.demo.history import write_history

    home = tmp_path_factory.mktemp("demo") / ".ratchet"
    write_history(Workspace.at(home), nights=NIGHTS, now=datetime.now(UTC))
    return home


@pytest.fixture
def demo(demo_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Its store, and the workspace named to whoever asks."""
    monkeypatch.setenv(HOME_VARIABLE, str(demo_home))
    with Store(Workspace.at(demo_home)) as store:
        yield store
