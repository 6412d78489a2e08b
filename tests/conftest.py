"""Fixtures that every room may use. Nothing here needs a network or a download."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ray_nodes import two_nodes
from tests.tiny import save_tiny_llama

__all__ = ["two_nodes"]

# Before torch is loaded, here and in every process that a test starts: sums in another number of
# threads differ in their last bits, and threads of two workers on two cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama, a real small tokenizer and a chat template."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
