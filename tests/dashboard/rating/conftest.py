from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.rating.rating_builders import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World.copy(tmp_path)
    yield made
    made.store.close()
