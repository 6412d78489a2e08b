"""Fixtures that every room may use. Nothing here needs a network or a download."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.metrics.base import MetricSpec
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


@pytest.fixture
def first_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric under version 1, as all were when the digests that tests hold were taken.

    A metric whose values change gets another version, which makes another suite and so another
    training, by rule. With it held, a digest moves only where something else has changed.
    """
    whole = MetricSpec.signature.fget
    assert whole is not None
    first = property(lambda spec: whole(spec).replace(f"|v:{spec.version}", "|v:1", 1))
    monkeypatch.setattr(MetricSpec, "signature", first)
