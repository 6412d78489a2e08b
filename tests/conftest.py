"""Fixtures that every room may use. Nothing here needs a network or a download."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray_nodes import two_nodes
from tests.tiny import save_tiny_llama

__all__ = ["two_nodes"]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama, a real small tokenizer and a chat template."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
