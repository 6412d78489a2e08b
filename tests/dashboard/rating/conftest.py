"""A workspace with rated runs for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.rating.rating_builders import RatedRuns


@pytest.fixture
def rated(tmp_path: Path) -> Iterator[RatedRuns]:
    made = RatedRuns.copy(tmp_path)
    yield made
    made.store.close()
